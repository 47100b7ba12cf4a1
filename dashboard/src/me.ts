/** Who is signed in, for whatever shows a button that changes something. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Me } from "./api/client.ts";

export const MeContext = createContext<Me | undefined>(undefined);

export function useMayWrite(): boolean {
  return useContext(MeContext)?.access === "write";
}
