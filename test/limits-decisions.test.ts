/**
 * What bad input gets, continued: what steps, waits and delays may say beyond the plain declaration, and what people
 * decide.
 */
import { describe, expect, test } from "vitest";
import type {
  BeginStepInput,
  FailStepInput,
  RestartRunOptions,
  StepResolution,
} from "../src/contract/types.ts";
import {
  beginRequest,
  checkWaitForEvent,
  checkWatchLease,
  failRequest,
  resolveRequest,
  restartRequest,
} from "../src/stores/to-request.ts";
import { expectInvalid } from "./helpers/invalid.ts";

const BEGIN: BeginStepInput = { runId: "r", stepIndex: 0, intent: "i", kind: "logic", inputHash: "" };
const FAIL: FailStepInput = { runId: "r", stepIndex: 0, error: { message: "m" } };
const RESTART: RestartRunOptions = { fromStep: 0, dropLater: true };

describe("long times", () => {
  test("a delay before the next attempt is a hundred years at most", () => {
    const most = 3_155_760_000_000;
    expect(failRequest({ ...FAIL, retryAfterMs: most }).retryAfterMs).toBe(most);
    expectInvalid(
      () => failRequest({ ...FAIL, retryAfterMs: most + 1 }),
      "retryAfterMs",
      `must be a whole number from 0 to ${most}, but is ${most + 1}`,
    );
  });

  test("a call is held for a minute at most", () => {
    for (const check of [
      (timeoutMs: number) => checkWaitForEvent({ runId: "r", key: "k", timeoutMs }),
      (timeoutMs: number) => checkWatchLease({ runId: "r", fence: 1, timeoutMs }),
    ]) {
      expect(() => check(60_000)).not.toThrow();
      expectInvalid(() => check(60_001), "timeoutMs", "from 0 to 60000, but is 60001");
    }
  });
});

describe("what is added to a step", () => {
  test("is, when absent: its position for a path, no wait, and another attempt after a crash", () => {
    expect(beginRequest({ ...BEGIN, stepIndex: 7 })).toMatchObject({
      path: "7",
      waitFor: null,
      onInterrupted: "rerun",
      timeoutMs: null,
      attempt: null,
    });
    expect(failRequest(FAIL)).toMatchObject({ retryAfterMs: null, inDoubt: false });
  });

  test("is taken as it is given", () => {
    const waitFor = { kind: "event", key: "k" } as const;
    expect(beginRequest({ ...BEGIN, path: "1/a/0", waitFor, onInterrupted: "park" })).toMatchObject({
      path: "1/a/0",
      waitFor: { for: "event", key: "k" },
      onInterrupted: "park",
    });
    expect(beginRequest({ ...BEGIN, waitFor: { kind: "time" } }).waitFor).toEqual({ for: "time", key: null });
    expect(failRequest({ ...FAIL, retryAfterMs: 0, inDoubt: true })).toMatchObject({
      retryAfterMs: 0,
      inDoubt: true,
    });
  });

  test("is an attempt from 1", () => {
    expect(beginRequest({ ...BEGIN, attempt: 1 }).attempt).toBe(1);
    for (const attempt of [0, -1, 1.5, Number.NaN]) {
      expectInvalid(
        () => beginRequest({ ...BEGIN, attempt }),
        "attempt",
        `must be a whole number from 1 to ${Number.MAX_SAFE_INTEGER}, but is ${attempt}`,
      );
    }
  });

  test("has a policy and a kind of wait of their lists", () => {
    expectInvalid(
      () => beginRequest({ ...BEGIN, onInterrupted: "retry" as "rerun" }),
      "onInterrupted",
      'must be one of rerun, fail, park, reconcile, but is "retry"',
    );
    const kind = "retry" as "time";
    expectInvalid(
      () => beginRequest({ ...BEGIN, waitFor: { kind } }),
      "waitFor.kind",
      "must be one of event, time",
    );
    expectInvalid(() => beginRequest({ ...BEGIN, waitFor: "time" as never }), "waitFor", "must be an object");
  });
});

describe("what people decide", () => {
  test("on a step is either a result or another attempt", () => {
    expect(resolveRequest("r", 2, { result: { ok: true } }, {})).toMatchObject({
      op: "resolve",
      stepIndex: 2,
      result: { text: '{"ok":true}' },
    });
    expect(resolveRequest("r", 2, { rerun: true }, { requestId: "asked" })).toEqual({
      op: "resolve",
      runId: "r",
      requestId: "asked",
      stepIndex: 2,
      result: null,
    });
  });

  test("on a step may be the result undefined, which is not another attempt", () => {
    expect(resolveRequest("r", 2, { result: undefined }, {}).result).toEqual({ text: "" });
  });

  test.each<[string, unknown, string, string]>([
    ["nothing", {}, "resolution", "must be either { result } or { rerun: true }"],
    ["both", { result: 1, rerun: true }, "resolution", "must be either { result } or { rerun: true }"],
    ["more", { result: 1, note: "x" }, "resolution", "must be either { result } or { rerun: true }"],
    ["no rerun", { rerun: false }, "resolution.rerun", "must be true"],
    ["a list", [1], "resolution", "must be an object"],
    ["null", null, "resolution", "must be an object"],
  ])("on a step is refused when it says %s", (_what, resolution, field, problem) => {
    expectInvalid(() => resolveRequest("r", 0, resolution as StepResolution, {}), field, problem);
  });

  test("on a step is refused when its result is not JSON", () => {
    expect(() => resolveRequest("r", 0, { result: () => 1 }, {})).toThrow(
      expect.objectContaining({
        code: "payload_not_json",
        message: expect.stringContaining("resolution.result is a function") as string,
      }),
    );
  });

  test("on a restart has to say that later steps are dropped", () => {
    expect(restartRequest("r", { ...RESTART, fromStep: 3 })).toMatchObject({ op: "restart", stepIndex: 3 });
    const halfSaid = { fromStep: 3, dropLater: false } as unknown as RestartRunOptions;
    expectInvalid(() => restartRequest("r", halfSaid), "dropLater", "must be true");
    expectInvalid(() => restartRequest("r", null as never), "options", "must be an object");
  });
});
