/**
 * What `npm run dev` leaves for `npm run example:runs` to find: where it serves, and a token. The file is the user's alone,
 * git-ignored, and goes when the server does.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface DevSession {
  origin: string;
  token: string;
}

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const FOLDER = join(ROOT, ".wrangler");
const SESSION = join(FOLDER, "dev-session.json");
/** Settings for the Worker: of the token, its hash alone. */
export const SETTINGS = join(FOLDER, "dev-settings.env");

export function writeSession(session: DevSession, tokenEntry: object): void {
  mkdirSync(FOLDER, { recursive: true });
  removeFiles();
  writeFileSync(SESSION, JSON.stringify(session), { mode: 0o600 });
  writeFileSync(SETTINGS, `API_TOKENS='${JSON.stringify([tokenEntry])}'\n`, { mode: 0o600 });
}

/** `undefined` when no server runs, as far as the file tells. */
export function readSession(): DevSession | undefined {
  try {
    return JSON.parse(readFileSync(SESSION, "utf8")) as DevSession;
  } catch {
    return undefined;
  }
}

/** Removes the files, unless they are another server's by now. */
export function forgetSession({ token }: DevSession): void {
  if (readSession()?.token === token) removeFiles();
}

function removeFiles(): void {
  rmSync(SESSION, { force: true });
  rmSync(SETTINGS, { force: true });
}
