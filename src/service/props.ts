/**
 * What a binding may do: the `props` of its `[[services]]` entry, checked. A prop that is not understood is refused, for a
 * misspelt limit would be none.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkOneOf, checkText, LIMITS } from "../contract/limits.ts";

/** Whoever deploys a binding grants what it may do. */
export interface RunServiceProps {
  /** The one project whose runs can be seen and touched. Default: all projects. */
  projectId?: string;
  /** "read": nothing can be changed. Default "write". */
  access?: RunServiceAccess;
}

export type RunServiceAccess = "read" | "write";

export interface Grant {
  readonly projectId: string | undefined;
  readonly access: RunServiceAccess;
}

/** Throws `invalid_input`, with the prop's name as `field`. */
export function grantOf(props: unknown): Grant {
  if (props === undefined || props === null) return { projectId: undefined, access: "write" };
  if (typeof props !== "object" || Array.isArray(props)) {
    throw new DurableInvalidInputError("props", "of this binding must be an object");
  }
  const { projectId, access = "write", ...rest } = props as Record<string, unknown>;
  const [unknownProp] = Object.keys(rest);
  if (unknownProp !== undefined) {
    throw new DurableInvalidInputError(
      `props.${unknownProp}`,
      "of this binding is not known; the props are projectId and access",
    );
  }
  if ("projectId" in props) checkText("props.projectId", projectId, LIMITS.projectIdBytes);
  checkOneOf("props.access", access, ["read", "write"]);
  return { projectId: projectId as string | undefined, access };
}
