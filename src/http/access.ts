/**
 * Cloudflare Access: whether a JWT was made by the team's own key, for this application, and is still good.
 *
 * Access in front of a Worker adds the header `Cf-Access-Jwt-Assertion`; whoever reaches the Worker around it could add
 * any text, so the signature is what counts. Keys are fetched when first needed, and kept.
 */
import { createRemoteJWKSet, customFetch, errors, jwtVerify } from "jose";
import { checkOneOf, checkText, LIMITS } from "../contract/limits.ts";
import { DurableInvalidInputError } from "../contract/errors.ts";
import type { Caller, Scope } from "./scope.ts";

export interface AccessOptions {
  /** Such as "example.cloudflareaccess.com". */
  teamDomain: string;
  /** The application's audience tag. */
  audience: string;
  /** What whoever Access lets in may do. Default: read all projects. */
  grant?: Scope;
  /** How the team's keys are fetched. Default: `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface AccessVerifier {
  /** Whom the JWT stands for; `undefined` when it does not hold. */
  verify(jwt: string): Promise<Caller | undefined>;
}

/** Throws `invalid_input` for settings that cannot be. */
export function accessVerifier(options: AccessOptions): AccessVerifier {
  const { teamDomain, audience, grant = { access: "read" }, fetch } = options;
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)+$/i.test(teamDomain))
    throw new DurableInvalidInputError("teamDomain", "must be a host name, without https://");
  checkText("audience", audience, 256);
  const issuer = `https://${teamDomain}`;
  const certs = new URL(`${issuer}/cdn-cgi/access/certs`);
  const keys = createRemoteJWKSet(certs, fetch === undefined ? {} : { [customFetch]: fetch });
  return {
    async verify(jwt) {
      try {
        const { payload } = await jwtVerify(jwt, keys, {
          issuer,
          audience,
          algorithms: ["RS256"],
          requiredClaims: ["exp"],
        });
        const { email, common_name: serviceToken, sub } = payload;
        const name = [email, serviceToken, sub].find((claim) => typeof claim === "string" && claim !== "");
        return { name: (name as string | undefined) ?? "access", ...grant };
      } catch (error) {
        // A key set that cannot be had lets nobody in, but is the deployment's trouble, not the caller's.
        if (!isOfJwt(error)) console.error("the keys of Cloudflare Access cannot be fetched", error);
        return undefined;
      }
    },
  };
}

/** What jose says of a JWT itself, such as that it has expired, or that the keys know none of its name. */
const OF_JWT = [
  errors.JOSEAlgNotAllowed,
  errors.JOSENotSupported,
  errors.JWKSMultipleMatchingKeys,
  errors.JWKSNoMatchingKey,
  errors.JWSInvalid,
  errors.JWSSignatureVerificationFailed,
  errors.JWTClaimValidationFailed,
  errors.JWTExpired,
  errors.JWTInvalid,
];

function isOfJwt(error: unknown): boolean {
  return OF_JWT.some((kind) => error instanceof kind);
}

/** The secret `ACCESS_GRANT`: `{ "access": "read" | "write", "projectId"? }`. Throws `invalid_input`. */
export function parseGrant(json: string): Scope {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new DurableInvalidInputError("ACCESS_GRANT", "is not JSON");
  }
  if (typeof parsed !== "object" || parsed === null)
    throw new DurableInvalidInputError("ACCESS_GRANT", "must be an object");
  const { access, projectId, ...others } = parsed as Record<string, unknown>;
  if (Object.keys(others).length > 0)
    throw new DurableInvalidInputError(
      "ACCESS_GRANT",
      "has a field that is not known; there are access, projectId",
    );
  checkOneOf("ACCESS_GRANT.access", access, ["read", "write"]);
  if (projectId === undefined) return { access };
  checkText("ACCESS_GRANT.projectId", projectId, LIMITS.projectIdBytes);
  return { access, projectId };
}
