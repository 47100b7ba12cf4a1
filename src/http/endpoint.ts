/**
 * What an endpoint of the API is: its address, who may call it, what it takes and answers, and what it does.
 *
 * One list of these is the API: routes, checks, 405s and the OpenAPI document come from it, and nothing beside it.
 */
import { z } from "zod";
import type { DurableRunStore } from "../contract/types.ts";
import { DurableInvalidInputError } from "../contract/errors.ts";
import type { RunHistoryReads } from "../history/types.ts";
import type { RunWorkflowBinding } from "../workflows/start-run.ts";
import type { TaskRegistry } from "../workflows/tasks.ts";
import { MAX_ENTRIES } from "./requests.ts";
import type { Caller } from "./scope.ts";

/** What the API asks of a store. {@link CoordinatedDurableRunStore} has it. */
export interface ApiStore extends Required<
  Pick<
    DurableRunStore,
    "emitEvent" | "cancelRun" | "restartRun" | "forkRun" | "resolveStep" | "loadRun" | "close"
  >
> {
  lag(runId: string): Promise<number>;
}

/** What an endpoint works with. Store and history are confined to the caller's scope. */
export interface Services {
  readonly caller: () => Caller;
  readonly store: () => ApiStore;
  readonly history: () => RunHistoryReads;
  readonly tasks: TaskRegistry;
  /** Runs the tasks. Absent where nothing can be started. */
  readonly workflow: RunWorkflowBinding | undefined;
  /** To be called once stats are answered. */
  readonly afterStats: () => void;
  /** The document of this very API. */
  readonly document: () => object;
  /** The request's id, made of its `Idempotency-Key`; or nothing. */
  readonly request: { requestId?: string };
  /** With an `Idempotency-Key`: the id of the run that the request makes, where it names none. */
  readonly keyedRunId: string | undefined;
}

export interface Reply {
  status: 200 | 201 | 202;
  body: object;
  /** A path below the API's own. */
  location?: string;
}

type Call<P, Q, B> = Services & { readonly params: P; readonly query: Q; readonly body: B };

interface Spec<P, Q, B> {
  /** `operationId`. */
  readonly id: string;
  readonly method: "get" | "post";
  /** Below `/api/v1`, with `:name` for parameters. */
  readonly path: string;
  readonly access: "public" | "read" | "write";
  readonly summary: string;
  readonly params: z.ZodType<P>;
  readonly query: z.ZodType<Q>;
  /** Absent: a body is not read. */
  readonly body?: z.ZodType<B>;
  /** Whether no body stands for `{}`. */
  readonly bodyOptional?: boolean;
  /** By status. */
  readonly answers: Readonly<Record<number, readonly [description: string, schema: z.ZodType]>>;
  readonly handle: (call: Call<P, Q, B>) => Promise<Reply> | Reply;
}

/** An endpoint whose types are its own business. */
export interface Endpoint extends Omit<Spec<unknown, unknown, unknown>, "handle"> {
  /** Checks what came, and handles it. Rejects with `invalid_input`. */
  call(services: Services, came: { params: unknown; query: unknown; body: unknown }): Promise<Reply>;
}

export function endpoint<P, Q, B = undefined>(spec: Spec<P, Q, B>): Endpoint {
  const { handle, ...described } = spec;
  return {
    ...described,
    async call(services, came) {
      const params = checked(spec.params, came.params, "path");
      const query = checked(spec.query, came.query, "query");
      if (spec.body !== undefined) checkWidth(spec.body, came.body);
      const body = spec.body === undefined ? undefined : checked(spec.body, bodyIn(spec, came.body), "body");
      return handle({ ...services, params, query, body: body as B });
    },
  };
}

function bodyIn({ bodyOptional = false }: { bodyOptional?: boolean }, body: unknown): unknown {
  if (body !== undefined) return body;
  if (bodyOptional) return {};
  throw new DurableInvalidInputError("body", "is needed");
}

/** Without what is `undefined`: for options whose types allow no such thing. */
export function given<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

/** Of a body with fields of its own; no schema has more. */
const MAX_FIELDS = 16;

/** Counts before there is a list of all that is wrong. */
function checkWidth(schema: z.ZodType, body: unknown): void {
  if (schema instanceof z.ZodUnknown || typeof body !== "object" || body === null) return;
  if (Object.keys(body).length > MAX_FIELDS)
    throw new DurableInvalidInputError("body", `must have at most ${MAX_FIELDS} fields`);
  for (const [field, most] of MAX_ENTRIES) {
    const map: unknown = Object.hasOwn(body, field) ? (body as Record<string, unknown>)[field] : undefined;
    if (typeof map === "object" && map !== null && Object.keys(map).length > most)
      throw new DurableInvalidInputError(field, `must have at most ${most} entries`);
  }
}

/** Throws `invalid_input` of the first issue, named by the field, or by `where` when the whole is meant. */
function checked<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue === undefined) throw new DurableInvalidInputError(where, "is not allowed");
  if (issue.code === "unrecognized_keys")
    throw new DurableInvalidInputError(where, "must have no field that is not known");
  // Below the schema's own fields, names are the caller's.
  throw new DurableInvalidInputError(String(issue.path[0] ?? where), ruleOf(issue));
}

/** What has to hold, in the words of the contract's own checks. */
function ruleOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return issue.expected === "int" ? "must be a whole number" : `must be of type ${issue.expected}`;
    case "invalid_value":
      return `must be one of ${issue.values.map(String).join(", ")}`;
    case "too_big":
      return `must be at most ${String(issue.maximum)}${UNITS[issue.origin] ?? ""}`;
    case "too_small":
      return `must be at least ${String(issue.minimum)}${UNITS[issue.origin] ?? ""}`;
    default:
      return issue.message;
  }
}

const UNITS: Readonly<Record<string, string>> = { string: " characters long", array: " of them" };
