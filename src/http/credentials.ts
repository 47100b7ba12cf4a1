/**
 * Settings of a Worker become credentials. Whatever cannot be understood lets nobody in, and is logged once: a mistake in
 * a secret must not open anything, and must not stop the Worker either.
 */
import { accessVerifier, parseGrant } from "./access.ts";
import type { Credentials } from "./caller.ts";
import { parseTokens } from "./tokens.ts";

/** Secrets or variables, by these names. */
export interface CredentialSettings {
  /** A JSON array of {@link TokenEntry}. */
  API_TOKENS?: string;
  ACCESS_TEAM_DOMAIN?: string;
  ACCESS_AUD?: string;
  /** JSON: `{ access, projectId? }`. Default: read. */
  ACCESS_GRANT?: string;
}

const known = new Map<string, Credentials>();

/** The same object for the same settings, so that Access's keys are kept. Never throws. */
export function credentialsFrom(settings: CredentialSettings): Credentials {
  const { API_TOKENS, ACCESS_TEAM_DOMAIN, ACCESS_AUD, ACCESS_GRANT } = settings;
  const key = JSON.stringify([API_TOKENS, ACCESS_TEAM_DOMAIN, ACCESS_AUD, ACCESS_GRANT]);
  let credentials = known.get(key);
  if (credentials === undefined) {
    credentials = {
      tokens: isSet(API_TOKENS) ? orNone(() => parseTokens(API_TOKENS)) : undefined,
      access: orNone(() => accessFrom(settings)),
    };
    known.clear();
    known.set(key, credentials);
  }
  return credentials;
}

function accessFrom({ ACCESS_TEAM_DOMAIN, ACCESS_AUD, ACCESS_GRANT }: CredentialSettings) {
  if (!isSet(ACCESS_TEAM_DOMAIN) && !isSet(ACCESS_AUD)) return undefined;
  return accessVerifier({
    teamDomain: ACCESS_TEAM_DOMAIN ?? "",
    audience: ACCESS_AUD ?? "",
    ...(isSet(ACCESS_GRANT) && { grant: parseGrant(ACCESS_GRANT) }),
  });
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== "";
}

function orNone<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    console.error(
      "credentials that cannot be understood are ignored:",
      error instanceof Error ? error.message : error,
    );
    return undefined;
  }
}
