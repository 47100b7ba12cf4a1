/** Who is calling, and what a caller is confined to: the same for a token, a JWT and a binding of another Worker. */

export type AccessLevel = "read" | "write";

/** Without a `projectId`: all projects. */
export interface Scope {
  projectId?: string;
  access: AccessLevel;
}

export interface Caller extends Scope {
  /** Of the token, or whom Access has let in. For people. */
  name: string;
}
