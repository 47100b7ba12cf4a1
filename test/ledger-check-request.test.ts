/** What is taken for a request: all that the client makes, and nothing that would not be one. */
import { describe, expect, test } from "vitest";
import { DurableInvalidInputError } from "../src/contract/errors.ts";
import { LIMITS } from "../src/contract/limits.ts";
import { checkRequest } from "../src/ledger/check-request.ts";
import type { Op, Request } from "../src/ledger/requests.ts";
import * as requests from "../src/stores/to-request.ts";
import {
  beginOf,
  begunOf,
  cancelOf,
  claimOf,
  completeOf,
  copyOf,
  emitOf,
  endOf,
  failOf,
  forkOf,
  renewOf,
  resolveOf,
  restartOf,
  sealOf,
  suspendOf,
} from "./helpers/ledger.ts";

const NOW = 1_800_000_000_000;
const MANIFEST = { manifestHash: "0".repeat(64), task: '{"id":"task","intent":"Do it"}' };
const STEP = { ...copyOf().step, status: "completed" as const, startedAt: NOW - 5, completedAt: NOW };

const VALID: { [O in Op]: Request } = {
  claim: claimOf(MANIFEST),
  renew: renewOf(),
  begin: beginOf(),
  complete: completeOf({ begun: begunOf() }),
  fail: failOf({ begun: begunOf() }),
  end: endOf({ error: '{"message":"no"}', outcome: '{"pass":true}' }),
  emit: emitOf(),
  suspend: suspendOf(),
  cancel: cancelOf(),
  resolve: resolveOf(),
  restart: restartOf(),
  fork: forkOf(MANIFEST),
  copy: copyOf({ stepIndex: STEP.stepIndex, step: STEP }),
  seal: sealOf(),
};

function fieldOf(request: unknown): string | undefined {
  try {
    checkRequest(request, NOW);
    return undefined;
  } catch (error) {
    if (error instanceof DurableInvalidInputError) return error.field;
    throw error;
  }
}

/** The request with another value at a place such as "begun.startedAt"; `undefined` takes the field away. */
function changed(request: unknown, place: string, value: unknown): unknown {
  const [name = "", ...below] = place.split(".");
  const fields = request as Record<string, unknown>;
  const { [name]: before, ...others } = fields;
  if (below.length > 0) return { ...fields, [name]: changed(before, below.join("."), value) };
  return value === undefined ? others : { ...fields, [name]: value };
}

describe("a request", () => {
  test.each(Object.entries(VALID))("of %s passes", (_op, request) => {
    expect(fieldOf(request)).toBeUndefined();
  });

  test("may tell of a begin that nobody was told of when it was", () => {
    for (const request of [completeOf, failOf]) {
      const untold = begunOf({ startedAt: null, elapsedMs: LIMITS.timeoutMs });
      expect(fieldOf(request({ begun: untold }))).toBeUndefined();
    }
  });

  test("may have fields that a later version has brought", () => {
    for (const request of Object.values(VALID)) expect(fieldOf({ ...request, later: {} })).toBeUndefined();
  });

  test.each(Object.entries(VALID))("of %s lacks none of its fields", (_op, request) => {
    for (const name of Object.keys(request)) expect(fieldOf(changed(request, name, undefined))).toBe(name);
    for (const name of Object.keys(request)) {
      // A step of a copy says nothing of its result, nor of what the copy itself brings.
      const bad = [Number.NaN, -1, 0.5, 9e18, [], {}, "\u0000", "x".repeat(2_000_000), true, () => {}];
      const refused = bad.filter((value) => fieldOf(changed(request, name, value)) !== undefined);
      expect(refused.length).toBeGreaterThanOrEqual(bad.length - 2);
    }
  });

  test.each([null, undefined, 0, "claim", [], {}, { op: "nope" }, { op: "__proto__" }, { op: {} }, () => {}])(
    "is not %o",
    (garbage) => expect(fieldOf(garbage)).toBeDefined(),
  );

  const refused: [Op, string, unknown][] = [
    ["claim", "leaseMs", 9e15],
    ["claim", "leaseMs", 0],
    ["claim", "manifestHash", {}],
    ["claim", "manifestHash", "hash"],
    ["claim", "tags", "nope"],
    ["claim", "tags", "null"],
    ["claim", "tags", '{"a":1}'],
    ["claim", "tags", '{"a":"1","a":"2"}'],
    ["claim", "task", '{"id":"t"}'],
    ["claim", "task", '"t"'],
    ["claim", "input", { ref: "0/1/9000000000" }],
    ["claim", "input", { text: "{}", ref: "x" }],
    ["claim", "input", { text: "nope" }],
    ["claim", "requestId", "x".repeat(LIMITS.requestIdBytes + 1)],
    ["renew", "fence", -1],
    ["renew", "fence", 2 ** 53],
    ["begin", "attempt", 0],
    ["begin", "kind", "none"],
    ["begin", "caught", [-1]],
    ["begin", "caught", "01"],
    ["begin", "waitFor", { for: "decision", key: null }],
    ["begin", "waitFor", { for: "event", key: null }],
    ["begin", "onInterrupted", "explode"],
    ["begin", "path", ""],
    ["begin", "timeoutMs", LIMITS.timeoutMs + 1],
    ["complete", "result", { text: "nope" }],
    ["complete", "result", { text: "[".repeat(1_001) + "]".repeat(1_001) }],
    ["complete", "result", { text: `"${"x".repeat(LIMITS.payloadBytes)}"` }],
    ["complete", "begun.startedAt", -9.2e18],
    ["complete", "begun.startedAt", NOW + 86_400_001],
    ["complete", "begun.startedAt", undefined],
    ["complete", "begun.elapsedMs", undefined],
    ["complete", "begun.elapsedMs", null],
    ["complete", "begun.elapsedMs", -1],
    ["complete", "begun.elapsedMs", 0.5],
    ["fail", "begun.elapsedMs", LIMITS.timeoutMs + 1],
    ["complete", "begun.deadlineAt", 8.64e15 + 2],
    ["fail", "error", '{"message":1}'],
    ["fail", "error", '{"message":"no","cause":[]}'],
    ["end", "error", "nope"],
    ["end", "outcome", "nope"],
    ["end", "outcome", "[]"],
    ["end", "outcome", '{"score":1e999}'],
    ["end", "outcome", `{"notes":"${"x".repeat(LIMITS.smallPayloadBytes)}"}`],
    ["end", "status", "cancelled"],
    ["copy", "step.startedAt", -9e18],
    ["copy", "step.completedAt", 9e18],
    ["copy", "step.completedAt", NOW + 86_400_001],
    ["copy", "step.attempts", 9e15],
    ["copy", "step.intent", {}],
    ["copy", "step.stepIndex", STEP.stepIndex + 1],
    ["copy", "step.status", "running"],
    ["copy", "step.error", "nope"],
    ["copy", "fence", null],
    ["resolve", "readAt", 9e15],
    ["fork", "throughStep", LIMITS.steps],
  ];
  test.each(refused)("of %s is refused for its %s: %j", (op, place, value) => {
    // A nested field may be named, or what it lies in.
    expect(fieldOf(changed(VALID[op], place, value))?.startsWith(place)).toBe(true);
  });

  test("of the client passes at the limits of the contract", () => {
    const name = (bytes: number): string => "é".repeat(bytes / 2);
    const tags = Object.fromEntries(
      Array.from({ length: LIMITS.tags }, (_, n) => [
        `${n}`.padEnd(LIMITS.tagBytes, '"'),
        name(LIMITS.tagBytes),
      ]),
    );
    const run = { runId: name(LIMITS.runIdBytes), requestId: name(LIMITS.requestIdBytes) };
    const worker = { ...run, workerId: name(LIMITS.workerIdBytes), leaseMs: LIMITS.leaseMs };
    const error = { message: "\u0001".repeat(20_000), stack: "\ud800".repeat(20_000), name: "", code: "ü" };
    const manifest = {
      projectId: name(LIMITS.projectIdBytes),
      scenarioId: name(LIMITS.projectIdBytes),
      task: { id: "t", intent: "i", metadata: { "10": 1, "9": -0, ["__proto__"]: { a: "\ud800" } } },
      input: { text: "x".repeat(300_000) },
      tags,
    };
    const step = { ...run, stepIndex: LIMITS.steps - 1, intent: name(LIMITS.intentBytes), fence: 0 };
    const made: Request[] = [
      requests.claimRequest({ ...worker, manifest }),
      requests.renewRequest(worker),
      requests.beginRequest({
        ...step,
        kind: "event",
        inputHash: name(LIMITS.inputHashBytes),
        timeoutMs: LIMITS.timeoutMs,
        caught: [0, LIMITS.steps - 1],
        waitFor: { kind: "event", key: name(LIMITS.eventKeyBytes) },
      }),
      requests.beginRequest({ ...step, kind: "logic", inputHash: "", waitFor: { kind: "time" }, attempt: 1 }),
      requests.completeRequest({ ...step, result: undefined }),
      requests.failRequest({ ...step, error, retryAfterMs: LIMITS.timeoutMs, inDoubt: true }),
      requests.endRequest({
        ...worker,
        status: "failed",
        error,
        outcome: { score: 1e300, metadata: { a: [] } },
      }),
      requests.endRequest({ ...worker, status: "completed", result: undefined }),
      requests.emitRequest({ ...run, key: name(LIMITS.eventKeyBytes), payload: null }),
      requests.suspendRequest(worker),
      requests.cancelRequest(run.runId, name(LIMITS.reasonBytes), {}),
      requests.restartRequest(run.runId, { fromStep: 0, dropLater: true }),
      { ...requests.resolveRequest(run.runId, 0, { rerun: true }, {}), isCaught: false, readAt: NOW },
    ];
    for (const request of made) expect([request.op, fieldOf(request)]).toEqual([request.op, undefined]);
  });
});
