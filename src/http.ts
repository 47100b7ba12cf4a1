/**
 * durable-runs/http: the HTTP API and the dashboard's sign-in, to be served by a Worker of your own. Needs the optional
 * peers hono, zod and jose.
 */
export type { AccessOptions, AccessVerifier } from "./http/access.ts";
export { accessVerifier } from "./http/access.ts";
export type { RunsApiOptions } from "./http/api.ts";
export { API_BASE, createRunsApi } from "./http/api.ts";
export type { Credentials, Identified, Via } from "./http/caller.ts";
export { checkMayWrite, identify, scopeOf } from "./http/caller.ts";
export type { CredentialSettings } from "./http/credentials.ts";
export { credentialsFrom } from "./http/credentials.ts";
export type { DashboardOptions } from "./http/dashboard.ts";
export { createDashboard } from "./http/dashboard.ts";
export type { ApiStore } from "./http/endpoint.ts";
export { withSecurityHeaders } from "./http/headers.ts";
export type { HttpErrorCode, Problem, ProblemCode } from "./http/problems.ts";
export { HttpError, problemResponse } from "./http/problems.ts";
export type { AccessLevel, Caller, Scope } from "./http/scope.ts";
export type { TokenBook, TokenEntry } from "./http/tokens.ts";
export { newToken, parseTokens } from "./http/tokens.ts";
