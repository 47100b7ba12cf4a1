import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toJsonText } from "../../src/contract/payload.ts";
import type { Change, EventState, RunState, StepState } from "../../src/ledger/state.ts";
import { EventFold, RunFold } from "../../src/stores/file-system/folds.ts";

const runId = "../run 1 🏃";
const error = JSON.stringify({ name: "TypeError", message: "no\nsuch", code: "E_NO", stack: "at x" });

const run: RunState = {
  runId,
  manifestHash: "abc",
  projectId: "tests",
  scenarioId: null,
  task: '{"id":"task-1","intent":"Summarise"}',
  input: { text: '{"__proto__":1,"b":[1.5,null],"a":"\\ud83c"}' },
  tags: null,
  status: "running",
  fence: 3,
  takeovers: 2,
  workerId: "worker-a",
  claimRequestId: "request-1",
  leaseMs: 30_000,
  leaseExpiresAt: 1_700_000_030_000,
  createdAt: 1_700_000_000_001,
  updatedAt: 1_700_000_000_002,
  completedAt: null,
  outcome: null,
  result: null,
  error: null,
  waits: [],
  forkedFrom: null,
  interventions: [],
};

const step: StepState = {
  stepIndex: 7,
  path: "7",
  intent: "fetch",
  kind: "event",
  inputHash: "",
  status: "running",
  attempts: 2,
  tries: 2,
  nextAttemptAt: null,
  inDoubt: false,
  result: null,
  error: null,
  caught: [1, 4],
  deadlineAt: 1_700_000_090_000,
  startedAt: 1_700_000_000_003,
  completedAt: null,
  workerId: "worker-a",
  fence: 3,
  beginRequestId: "request-2",
};

const event: EventState = {
  key: "go",
  payload: { text: "1" },
  emittedAt: 1_700_000_000_004,
  requestId: "request-3",
};

/** Every payload that a step may have, `undefined` included. */
const payload = fc
  .option(fc.jsonValue(), { nil: undefined })
  .map((value) => ({ text: toJsonText("value", value) }));

function place(line: string): { offset: number; length: number } {
  return { offset: 0, length: Buffer.byteLength(line) };
}

function folded(change: Change): RunFold {
  const writer = new RunFold(runId);
  const reader = new RunFold(runId);
  const line = writer.line(change, "nonce-1")!;
  expect(line).not.toContain("\n");
  expect(reader.take(line, place(line))).toBe("nonce-1");
  return reader;
}

describe("a line gives back the state that it was made of", () => {
  const ended = { leaseExpiresAt: null, completedAt: 1_700_000_000_009 };
  test.each<[string, RunState]>([
    ["a running run", run],
    ["a run with a scenario and tags", { ...run, scenarioId: "s", tags: '{"team":"a","empty":""}' }],
    ["a run that returned a value", { ...run, ...ended, status: "completed", result: { text: '{"a":[]}' } }],
    ["a run that returned null", { ...run, ...ended, status: "completed", result: { text: "null" } }],
    ["a run that returned undefined", { ...run, ...ended, status: "completed", result: { text: "" } }],
    [
      "a run with no result recorded",
      { ...run, ...ended, status: "completed", outcome: '{"pass":false,"score":0}' },
    ],
    ["a failed run", { ...run, ...ended, status: "failed", error }],
    ["a cancelled run", { ...run, ...ended, status: "cancelled", error, interventions: ["a", "b"] }],
    [
      "a suspended run that waits for several things",
      {
        ...run,
        status: "suspended",
        leaseExpiresAt: null,
        waits: [
          { stepIndex: 0, path: "0/a/0", for: "decision", key: null, until: null },
          { stepIndex: 1, path: "0/b ü/0", for: "event", key: "go", until: 1_700_000_000_010 },
        ],
      },
    ],
    ["a fork that is not sealed", { ...run, forkedFrom: { runId: "a/b", throughStep: 4, copying: true } }],
    ["a fork that is sealed", { ...run, forkedFrom: { runId: "a/b", throughStep: 4, copying: false } }],
  ])("%s", (_what, state) => {
    expect(folded({ run: state }).run).toEqual(state);
  });

  test.each<[string, StepState]>([
    ["a running step", step],
    ["a step with no deadline", { ...step, deadlineAt: null, caught: [], inputHash: "ff" }],
    ["a failed step", { ...step, status: "failed", error, completedAt: 1_700_000_000_009 }],
    ["a step that runs again after a failure", { ...step, error }],
    [
      "a step that is to be attempted again",
      {
        ...step,
        status: "pending",
        error,
        tries: 1,
        completedAt: 1_700_000_000_009,
        nextAttemptAt: 1_700_000_009_000,
      },
    ],
    ["a parked step in a branch", { ...step, status: "pending", inDoubt: true, path: "3/ü/0" }],
    ["a step that was resolved for another attempt", { ...step, status: "pending", tries: 0 }],
  ])("%s", (_what, state) => {
    expect(folded({ step: state }).step(7)).toEqual(state);
  });

  test("a completed step, whatever its result", () => {
    fc.assert(
      fc.property(payload, (result) => {
        const state: StepState = { ...step, status: "completed", result, completedAt: 1_700_000_000_009 };
        expect(folded({ step: state }).step(7)).toEqual(state);
      }),
    );
  });

  test("a run and a step that change together", () => {
    const both = folded({ run, step });
    expect([both.run, both.step(7)]).toEqual([run, step]);
  });

  test("a restart: the steps from one on are gone, for whoever folds its line", () => {
    const writer = new RunFold(runId);
    const reader = new RunFold(runId);
    const positions = [0, 1, 2, 5];
    const lines = [
      writer.line({ run }, "nonce-0")!,
      ...positions.map((stepIndex, i) => {
        const one = { ...step, stepIndex, path: String(stepIndex) };
        return JSON.stringify({
          ...(JSON.parse(writer.line({ step: one }, `nonce-${i + 1}`)!) as object),
          seq: i + 2,
        });
      }),
    ];
    for (const line of lines) for (const fold of [writer, reader]) fold.take(line, place(line));
    const restarted: RunState = { ...run, status: "pending", fence: 4, leaseExpiresAt: null };
    const line = writer.line({ run: restarted, dropFrom: 2 }, "restart")!;
    // For people: how many are left.
    expect(JSON.parse(line)).toMatchObject({ dropFrom: 2, run: { status: "pending", stepCount: 2 } });
    for (const fold of [writer, reader]) {
      expect(fold.take(line, place(line))).toBe("restart");
      expect(fold.run).toEqual(restarted);
      expect([0, 1, 2, 5].map((stepIndex) => fold.step(stepIndex) !== null)).toEqual([
        true,
        true,
        false,
        false,
      ]);
      expect(fold.stepCount).toBe(2);
      // A line that lost the race against it does not count.
      const lost = JSON.stringify({ ...(JSON.parse(lines[4]!) as object), seq: 6, nonce: "late" });
      expect(fold.take(lost, place(lost))).toBeNull();
      expect(fold.step(5)).toBeNull();
    }
  });

  test("an event, whatever its payload", () => {
    fc.assert(
      fc.property(payload, (value) => {
        const state = { ...event, payload: value };
        const reader = new EventFold(runId);
        const line = new EventFold(runId).line({ event: state }, "nonce-1")!;
        expect(reader.take(line, place(line))).toBe("nonce-1");
        expect(reader.event("go")).toEqual(state);
      }),
    );
  });
});

describe("a line cut anywhere", () => {
  test("is no line, nor is what comes of it when the next is joined to it", () => {
    const writer = new RunFold(runId);
    const line = writer.line({ run: { ...run, result: { text: '"a \\"quoted\\" {[]} text"' } } }, "nonce-1")!;
    const next = writer.line({ step }, "nonce-2")!;
    for (let end = 0; end < line.length; end++) {
      const reader = new RunFold(runId);
      const fragment = line.slice(0, end);
      expect(reader.take(fragment, place(fragment))).toBeNull();
      if (end > 0) expect(reader.take(fragment + next, place(fragment + next))).toBeNull();
      expect(reader.run).toBeNull();
    }
  });
});
