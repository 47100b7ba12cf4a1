/**
 * What a binding of one project may send that no client of ours sends. Whatever it is, it is answered, and nobody of another
 * project notices: their lists, their numbers and the counting of what has ended go on.
 */
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import { newRunId } from "../../src/identity.ts";
import type { Op } from "../../src/ledger/requests.ts";
import type { RunSessionMethods } from "../../src/service/wire.ts";
import type { Envelope } from "../../src/stores/coordinated/wire.ts";
import type { Target } from "./rpc-calls.ts";
import { claimOf, messageOf, requestsOf } from "./rpc-calls.ts";
import { runsOver, sessionOf } from "./rpc-world.ts";

type Fields = Record<string, unknown>;
type Raw = Record<keyof RunSessionMethods, (...args: unknown[]) => Promise<Envelope<unknown>>>;

const OWN = sessionOf(env.RUNS_OF_A) as unknown as Raw;
const OTHERS = runsOver(env.RUNS_OF_B);
const invalid = (field: string) => ({ ok: false, error: { code: "invalid_input", field } });

function target(projectId = "project-a"): Target {
  return { runId: newRunId(), projectId, workerId: "worker-1", fence: 1 };
}

async function claimed(): Promise<Target> {
  const run = target();
  expect(await OWN.submit(messageOf(requestsOf.claim(run)))).toMatchObject({ ok: true });
  return run;
}

/** Fails if anybody else's view of the runs does. */
async function expectOthersToGoOn(): Promise<void> {
  const all = new RunHistory(env.DB);
  const other = target("project-b");
  const { runId, workerId } = other;
  await OTHERS.startOrResume(claimOf(other));
  await OTHERS.endRun({ runId, workerId, fence: 1, status: "completed", result: 1 });
  await all.rollUp();
  expect((await all.list({ limit: 200 })).runs.map((run) => run.runId)).toContain(runId);
  expect((await OTHERS.history.list({})).runs.map((run) => run.runId)).toContain(runId);
  await all.stuck({ graceMs: 0, limit: 200 });
  expect((await OTHERS.history.stats()).counts.completed).toBeGreaterThan(0);
  expect((await all.stats()).isBehind).toBe(false);
}

/** The request with another value at a place. */
function changed(request: object, [name, ...below]: readonly string[], value: unknown): object {
  const fields = request as Fields;
  if (name === undefined) return request;
  const inner = below.length === 0 ? value : changed((fields[name] ?? {}) as object, below, value);
  return { ...fields, [name]: inner };
}

describe("a message with a field that is no such thing is refused, and leaves no trace:", () => {
  const cases: [Op, string, unknown][] = [
    ["claim", "leaseMs", 9e15],
    ["claim", "manifestHash", {}],
    ["claim", "tags", "nope"],
    ["claim", "tags", "null"],
    ["claim", "task", "{"],
    ["claim", "input", { ref: "x/1/9000000000" }],
    ["end", "error", "nope"],
    ["end", "outcome", "nope"],
    ["complete", "result", { text: "nope" }],
    ["fail", "error", "nope"],
    ["copy", "step.startedAt", -9e18],
    ["copy", "step.completedAt", 9e18],
    ["copy", "step.attempts", 9e18],
    ["copy", "step.intent", {}],
  ];
  test.each(cases)("%s with %s %j", async (op, place, value) => {
    const run = op === "claim" ? target() : await claimed();
    const message = messageOf(changed(requestsOf[op](run), place.split("."), value) as never);
    expect(await OWN.submit(message)).toMatchObject(invalid(place));
    if (op === "claim") expect(await OWN.readRun(run.runId)).toMatchObject({ ok: true, value: null });
    await expectOthersToGoOn();
  });

  test("a begin that is said to have been long before time began, or after it ended", async () => {
    const run = await claimed();
    const {
      fence: _fence,
      stepIndex: _step,
      attempt: _attempt,
      op: _op,
      runId: _run,
      ...facts
    } = requestsOf.begin(run);
    for (const startedAt of [-9.2e18, Date.now() + 2 * 86_400_000]) {
      const request = {
        ...requestsOf.complete(run),
        begun: { ...facts, startedAt, elapsedMs: 0, deadlineAt: null },
      };
      expect(await OWN.submit(messageOf({ ...request, stepIndex: 0, attempt: 1 }))).toMatchObject(
        invalid("begun.startedAt"),
      );
    }
    await expectOthersToGoOn();
  });
});

describe("what is no message", () => {
  const runId = "r";
  test.each<[unknown, string]>([
    [undefined, "message"],
    [null, "message"],
    ["submit", "message"],
    [[], "message"],
    [{}, "request"],
    [{ v: 1, ack: "record", request: null }, "request"],
    [{ v: 1, ack: "record", request: {} }, "op"],
    [{ v: 1, ack: "record", request: { op: "drop", runId } }, "op"],
    [{ v: 1, ack: "record", request: { op: "toString", runId } }, "op"],
    [{ v: 1, ack: "record", request: { op: "seal" } }, "runId"],
    [{ v: 1, ack: "never", request: { op: "seal", runId } }, "ack"],
    [{ v: 1, ack: "record", request: { op: "seal", runId }, body: "text" }, "body"],
    [{ v: 1, ack: "record", request: { op: "complete", runId, stepIndex: {} } }, "stepIndex"],
  ])("%j is refused for its %s", async (message, field) => {
    expect(await OWN.submit(message)).toMatchObject(invalid(field));
  });
});

/** A completion of a step of run "r" with its event, right but for some fields. */
function completionWith(more: object): object {
  const request = {
    op: "complete",
    runId: "r",
    requestId: "q",
    fence: 1,
    stepIndex: 0,
    attempt: 1,
    begun: null,
  };
  return { ack: "record", request: { ...request, ...more } };
}

describe("a read with an argument of another type is refused:", () => {
  test.each<[keyof RunSessionMethods, unknown[], string]>([
    ["readRun", [7], "runId"],
    ["readStep", ["r", "x"], "stepIndex"],
    ["readStep", ["r", -1], "stepIndex"],
    ["readSteps", ["r", "x"], "from"],
    ["readSteps", ["r"], "from"],
    ["readEvent", ["r", {}], "key"],
    ["waitForEvent", ["r", "k", "soon"], "timeoutMs"],
    ["waitForEvent", ["r", "k", Number.NaN], "timeoutMs"],
    ["waitForEvent", ["r", "k", 1, 7], "completion"],
    ["waitForEvent", ["r", "k", 1, null], "completion"],
    ["waitForEvent", ["r", "k", 1, {}], "ack"],
    ["waitForEvent", ["r", "k", 1, { ack: "record" }], "request"],
    ["waitForEvent", ["r", "k", 1, { ack: "record", request: { op: "end", runId: "r" } }], "op"],
    ["waitForEvent", ["r", "k", 1, { ack: "record", request: { op: "complete", runId: "q" } }], "runId"],
    ["waitForEvent", ["r", "k", 1, completionWith({ requestId: 7 })], "requestId"],
    ["waitForEvent", ["r", "k", 1, completionWith({ fence: "1" })], "fence"],
    ["waitForEvent", ["r", "k", 1, completionWith({ stepIndex: -1 })], "stepIndex"],
    ["waitForEvent", ["r", "k", 1, completionWith({ attempt: 0.5 })], "attempt"],
    ["waitForEvent", ["r", "k", 1, completionWith({ begun: {} })], "begun.requestId"],
    ["watchLease", ["r", "1", 1], "fence"],
    ["watchLease", ["r", 1, 1e18], "timeoutMs"],
    ["readBody", ["r", "x", 0], "ref"],
    ["readBody", ["r", 7, 0], "ref"],
    ["readBody", ["r", `${"0".repeat(64)}/1/1`, "x"], "first"],
    ["readBody", ["r", `${"0".repeat(64)}/1/9000000000`, 0], "ref"],
    ["history", ["drop", "[]"], "name"],
    ["history", ["list", {}], "args"],
  ])("%s %j", async (name, args, field) => {
    expect(await OWN[name](...args)).toMatchObject(invalid(field));
  });
});

/** What RPC can carry. */
const value = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    undefined,
    true,
    Number.NaN,
    -0,
    2 ** 53,
    -9e18,
    9e18,
    9e15,
    8.64e15,
    "",
    "\u0000",
  ),
  fc.constantFrom<unknown>(
    "null",
    "[]",
    '{"message":"m"}',
    '{"a":"b"}',
    "\ud800",
    { text: "1" },
    { text: "{" },
  ),
  fc.constantFrom<unknown>({ ref: "x" }, [0, 1], new Uint8Array([1]), new Map(), new Date(Number.NaN)),
  fc.integer(),
  fc.double(),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.jsonValue({ maxDepth: 2 }),
);

/** A request that is right but for some of its fields, in the order of which it may be sent. */
const mutation = fc.record({
  op: fc.constantFrom(...(Object.keys(requestsOf) as Op[])),
  changes: fc.array(
    fc.record({ at: fc.nat(), below: fc.option(fc.nat(), { nil: undefined }), value, drop: fc.boolean() }),
    { maxLength: 3 },
  ),
});

function mutated(
  run: Target,
  { op, changes }: typeof mutation extends fc.Arbitrary<infer T> ? T : never,
): object {
  let request = requestsOf[op](run) as unknown as Fields;
  for (const { at, below, value: to, drop } of changes) {
    const names = Object.keys(request).filter((name) => name !== "runId");
    const name = names[at % names.length] ?? "op";
    const inner = request[name];
    if (below !== undefined && typeof inner === "object" && inner !== null) {
      const innerNames = Object.keys(inner);
      request = { ...request, [name]: { ...inner, [innerNames[below % innerNames.length] ?? "x"]: to } };
    } else if (drop) {
      const { [name]: _dropped, ...others } = request;
      request = others;
    } else request = { ...request, [name]: to };
  }
  return request;
}

describe("random messages of one project", () => {
  test("are answered with an envelope, each, and the others go on", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 8 }), async (mutations) => {
        const run = await claimed();
        for (const one of mutations) {
          const message = { v: 1, ack: "coordinator", request: mutated(run, one) };
          const answer = await OWN.submit(message);
          if (!answer.ok) expect(answer.error.code).toMatch(/^[a-z_]+$/);
          for (const read of [
            OWN.readRun(run.runId),
            OWN.readSteps(run.runId, 0),
            OWN.readManifest(run.runId),
          ])
            expect(await read).toHaveProperty("ok");
        }
      }),
      { numRuns: 60, seed: 20_260_101 },
    );
    await fc.assert(
      fc.asyncProperty(value, value, async (whole, request) => {
        for (const message of [
          whole,
          { v: 1, ack: "record", request },
          { v: whole, ack: request, request: {} },
        ])
          expect(await OWN.submit(message)).toMatchObject({ ok: false, error: { code: "invalid_input" } });
      }),
      { numRuns: 60, seed: 20_260_102 },
    );
    await expectOthersToGoOn();
  }, 120_000);
});
