/**
 * What bad input gets: a typed error that names the field and the limit, before anything is touched.
 *
 * The checks by themselves, and as every store applies them on the way to a request.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { byteLength, checkOneOf, checkRunId, checkStepIndex, cutText } from "../src/contract/limits.ts";
import type {
  BeginStepInput,
  CompleteStepInput,
  DurableRunManifest,
  EmitEventInput,
  EndRunInput,
  FailStepInput,
  RestartRunOptions,
  StartOrResumeInput,
  SuspendRunInput,
} from "../src/contract/types.ts";
import {
  beginRequest,
  cancelRequest,
  checkWaitForEvent,
  checkWatchLease,
  claimRequest,
  completeRequest,
  emitRequest,
  endRequest,
  failRequest,
  renewRequest,
  resolveRequest,
  restartRequest,
  suspendRequest,
} from "../src/stores/to-request.ts";
import { expectInvalid } from "./helpers/invalid.ts";

const MANIFEST: DurableRunManifest = { projectId: "p", task: { id: "t", intent: "do" }, input: {} };
const CLAIM: StartOrResumeInput = { runId: "r", manifest: MANIFEST, workerId: "w" };
const BEGIN: BeginStepInput = { runId: "r", stepIndex: 0, intent: "i", kind: "logic", inputHash: "" };
const COMPLETE: CompleteStepInput = { runId: "r", stepIndex: 0, result: 1 };
const FAIL: FailStepInput = { runId: "r", stepIndex: 0, error: { message: "m" } };
const END: EndRunInput = { runId: "r", workerId: "w", status: "completed" };
const EMIT: EmitEventInput = { runId: "r", key: "k", payload: 1 };
const SUSPEND: SuspendRunInput = { runId: "r", workerId: "w" };
const RESTART: RestartRunOptions = { fromStep: 0, dropLater: true };

describe("run ids", () => {
  test.each([
    ["one letter", "r"],
    ["1,024 bytes", "r".repeat(1_024)],
    ["1,024 bytes of two-byte letters", "é".repeat(512)],
    ["../", "../../etc/passwd"],
    ["an absolute path", "/root"],
    ["dots", ".."],
    ["emoji", "run-😀"],
    ["spaces and quotes", ` "it's" `],
    ["what SQL and URLs treat specially", "a%2Fb?c=d#e;--"],
    ["a letter beyond C1 controls", "\u0080\u00a0\u2028"],
    ["__proto__", "__proto__"],
  ])("%s is taken as it is", (_name, runId) => {
    expect(() => checkRunId(runId)).not.toThrow();
    expect(claimRequest({ ...CLAIM, runId }).runId).toBe(runId);
  });

  test.each<[string, unknown, string]>([
    ["an empty one", "", "must not be empty (1 to 1024 bytes)"],
    ["1,025 bytes", "r".repeat(1_025), "has 1025 bytes of UTF-8; at most 1024 are allowed"],
    ["1,100 bytes", "r".repeat(1_100), "has 1100 bytes of UTF-8; at most 1024 are allowed"],
    [
      "1,025 bytes in 513 letters",
      `${"é".repeat(512)}a`,
      "has 1025 bytes of UTF-8; at most 1024 are allowed",
    ],
    ["NUL", "a\u0000b", "has a control character (U+0000 to U+001F, U+007F)"],
    ["a line break", "a\nb", "has a control character"],
    ["DEL", "a\u007f", "has a control character"],
    ["a lone high surrogate", "run-\ud83d", "has a lone surrogate"],
    ["a lone low surrogate", "\ude00", "has a lone surrogate"],
    ["a number", 7, "must be a string, but is a number"],
    ["null", null, "must be a string, but is null"],
    ["undefined", undefined, "must be a string, but is undefined"],
    ["an object", { id: "r" }, "must be a string, but is an object"],
  ])("%s is refused", (_name, runId, problem) => {
    expectInvalid(() => checkRunId(runId), "runId", problem);
  });

  test("the same rule holds in every request", () => {
    const runId = "r".repeat(1_100);
    const all = [
      () => claimRequest({ ...CLAIM, runId }),
      () => renewRequest({ runId, workerId: "w" }),
      () => beginRequest({ ...BEGIN, runId }),
      () => completeRequest({ ...COMPLETE, runId }),
      () => failRequest({ ...FAIL, runId }),
      () => endRequest({ ...END, runId }),
      () => emitRequest({ ...EMIT, runId }),
      () => suspendRequest({ ...SUSPEND, runId }),
      () => cancelRequest(runId, "why", {}),
      () => resolveRequest(runId, 0, { rerun: true }, {}),
      () => restartRequest(runId, RESTART),
      () => checkWaitForEvent({ runId, key: "k", timeoutMs: 0 }),
      () => checkWatchLease({ runId, fence: 1, timeoutMs: 0 }),
    ];
    for (const one of all) expectInvalid(one, "runId", "has 1100 bytes");
  });
});

describe("texts", () => {
  const long = (bytes: number): string => "x".repeat(bytes);
  const tagged = (tags: Record<string, string>): StartOrResumeInput => ({
    ...CLAIM,
    manifest: { ...MANIFEST, tags },
  });
  const tagsOf = (count: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, ""]));

  test.each<[string, number, (text: string) => unknown]>([
    ["workerId", 512, (workerId) => claimRequest({ ...CLAIM, workerId })],
    ["workerId", 512, (workerId) => renewRequest({ runId: "r", workerId })],
    ["workerId", 512, (workerId) => endRequest({ ...END, workerId })],
    ["workerId", 512, (workerId) => suspendRequest({ ...SUSPEND, workerId })],
    [
      "manifest.projectId",
      256,
      (projectId) => claimRequest({ ...CLAIM, manifest: { ...MANIFEST, projectId } }),
    ],
    [
      "manifest.scenarioId",
      256,
      (scenarioId) => claimRequest({ ...CLAIM, manifest: { ...MANIFEST, scenarioId } }),
    ],
    ["intent", 1_024, (intent) => beginRequest({ ...BEGIN, intent })],
    ["path", 1_024, (path) => beginRequest({ ...BEGIN, path })],
    ["waitFor.key", 1_024, (key) => beginRequest({ ...BEGIN, waitFor: { kind: "event", key } })],
    ["key", 1_024, (key) => emitRequest({ ...EMIT, key })],
    ["key", 1_024, (key) => checkWaitForEvent({ runId: "r", key, timeoutMs: 0 })],
    ["reason", 4_096, (reason) => cancelRequest("r", reason, {})],
    ["requestId", 128, (requestId) => beginRequest({ ...BEGIN, requestId })],
    ["requestId", 128, (requestId) => suspendRequest({ ...SUSPEND, requestId })],
    ["requestId", 128, (requestId) => cancelRequest("r", "why", { requestId })],
    ["requestId", 128, (requestId) => resolveRequest("r", 0, { rerun: true }, { requestId })],
    ["requestId", 128, (requestId) => restartRequest("r", { ...RESTART, requestId })],
    ["manifest.tags key", 1_024, (key) => claimRequest(tagged({ [key]: "v" }))],
  ])("%s has 1 to %d bytes, and no control character", (field, max, request) => {
    expect(() => request(long(max))).not.toThrow();
    expect(() => request("😀")).not.toThrow();
    expectInvalid(
      () => request(long(max + 1)),
      field,
      `has ${max + 1} bytes of UTF-8; at most ${max} are allowed`,
    );
    expectInvalid(() => request(""), field, `must not be empty (1 to ${max} bytes)`);
    expectInvalid(() => request("a\tb"), field, "has a control character");
    expectInvalid(() => request("\udc00"), field, "has a lone surrogate");
  });

  test("an event key of 2 KB is refused", () => {
    expectInvalid(
      () => emitRequest({ ...EMIT, key: long(2_048) }),
      "key",
      "has 2048 bytes of UTF-8; at most 1024",
    );
  });

  test("an input hash may be empty, and has at most 128 bytes", () => {
    expect(beginRequest({ ...BEGIN, inputHash: long(128) }).inputHash).toBe(long(128));
    expect(beginRequest({ ...BEGIN, inputHash: "" }).inputHash).toBe("");
    expectInvalid(
      () => beginRequest({ ...BEGIN, inputHash: long(129) }),
      "inputHash",
      "at most 128 are allowed",
    );
  });

  test("a run has at most 64 tags, whose values may be empty and have at most 1,024 bytes", () => {
    expect(claimRequest(tagged({ env: "", team: long(1_024) })).tags).toBe(
      `{"env":"","team":"${long(1_024)}"}`,
    );
    expect(() => claimRequest(tagged(tagsOf(64)))).not.toThrow();
    expectInvalid(
      () => claimRequest(tagged(tagsOf(65))),
      "manifest.tags",
      "has 65 tags; at most 64 are allowed",
    );
    expectInvalid(
      () => claimRequest(tagged({ team: long(1_025) })),
      "manifest.tags.team",
      "at most 1024 are allowed",
    );
  });
});

describe("numbers", () => {
  const NOT_WHOLE: [string, unknown, string][] = [
    ["NaN", Number.NaN, "NaN"],
    ["Infinity", Number.POSITIVE_INFINITY, "Infinity"],
    ["1.5", 1.5, "1.5"],
    ["2^53", 2 ** 53, "9007199254740992"],
    ["a text", "30000", '"30000"'],
    ["null", null, "null"],
  ];

  describe("leaseMs is a whole number from 1 to a day", () => {
    test.each([1, 30_000, 86_400_000])("%d is taken", (leaseMs) => {
      expect(claimRequest({ ...CLAIM, leaseMs }).leaseMs).toBe(leaseMs);
      expect(renewRequest({ runId: "r", workerId: "w", leaseMs }).leaseMs).toBe(leaseMs);
    });

    test("it is half a minute when absent", () => {
      expect(claimRequest(CLAIM).leaseMs).toBe(30_000);
    });

    // `null` counts as absent.
    test.each([
      ["0", 0, "0"],
      ["negative", -1, "-1"],
      ["a day and a bit", 86_400_001, "86400001"],
      ...NOT_WHOLE.filter(([name]) => name !== "null"),
    ])("%s is refused", (_name, value, shown) => {
      const leaseMs = value as number;
      const problem = `must be a whole number from 1 to 86400000, but is ${shown}`;
      expectInvalid(() => claimRequest({ ...CLAIM, leaseMs }), "leaseMs", problem);
      expectInvalid(() => renewRequest({ runId: "r", workerId: "w", leaseMs }), "leaseMs", problem);
    });
  });

  describe("stepIndex is a whole number from 0 to 99,999", () => {
    test.each([0, 4_999, 99_999])("%d is taken", (stepIndex) => {
      expect(() => checkStepIndex(stepIndex)).not.toThrow();
      expect(beginRequest({ ...BEGIN, stepIndex }).stepIndex).toBe(stepIndex);
    });

    test.each([["negative", -1, "-1"], ["100,000", 100_000, "100000"], ...NOT_WHOLE])(
      "%s is refused",
      (_name, value, shown) => {
        const stepIndex = value as number;
        const problem = `must be a whole number from 0 to 99999, but is ${shown}`;
        for (const one of [
          () => beginRequest({ ...BEGIN, stepIndex }),
          () => completeRequest({ ...COMPLETE, stepIndex }),
          () => failRequest({ ...FAIL, stepIndex }),
          () => resolveRequest("r", stepIndex, { rerun: true }, {}),
        ]) {
          expectInvalid(one, "stepIndex", problem);
        }
        expectInvalid(() => restartRequest("r", { ...RESTART, fromStep: stepIndex }), "fromStep", problem);
      },
    );
  });

  test.each<[string, (value: number) => unknown]>([
    ["fence", (fence) => renewRequest({ runId: "r", workerId: "w", fence })],
    ["fence", (fence) => beginRequest({ ...BEGIN, fence })],
    ["fence", (fence) => completeRequest({ ...COMPLETE, fence })],
    ["fence", (fence) => failRequest({ ...FAIL, fence })],
    ["fence", (fence) => endRequest({ ...END, fence })],
    ["attempt", (attempt) => completeRequest({ ...COMPLETE, attempt })],
    ["attempt", (attempt) => failRequest({ ...FAIL, attempt })],
    ["timeoutMs", (timeoutMs) => beginRequest({ ...BEGIN, timeoutMs })],
    ["caught", (position) => beginRequest({ ...BEGIN, caught: [0, position] })],
    ["fence", (fence) => suspendRequest({ ...SUSPEND, fence })],
    ["fence", (fence) => checkWatchLease({ runId: "r", fence, timeoutMs: 0 })],
    ["retryAfterMs", (retryAfterMs) => failRequest({ ...FAIL, retryAfterMs })],
    ["timeoutMs", (timeoutMs) => checkWaitForEvent({ runId: "r", key: "k", timeoutMs })],
    ["timeoutMs", (timeoutMs) => checkWatchLease({ runId: "r", fence: 1, timeoutMs })],
  ])("%s is a whole number, 0 or more", (field, request) => {
    expect(() => request(0)).not.toThrow();
    for (const wrong of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expectInvalid(() => request(wrong), field, `must be a whole number from 0 to `);
      expectInvalid(() => request(wrong), field, `but is ${wrong}`);
    }
  });
});

describe("kinds and shapes", () => {
  test("a step has a kind of the list", () => {
    const kind = "magic" as "logic";
    expectInvalid(
      () => beginRequest({ ...BEGIN, kind }),
      "kind",
      'must be one of logic, llm, tool, readiness, deterministic, event, but is "magic"',
    );
  });

  test("a run ends completed or failed", () => {
    const status = "cancelled" as "failed";
    expectInvalid(() => endRequest({ ...END, status }), "status", "must be one of completed, failed");
  });

  test("a long wrong value is shown in part", () => {
    expectInvalid(() => checkOneOf("kind", "x".repeat(1_000), ["a"]), "kind", `but is "${"x".repeat(60)}…"`);
  });

  test.each<[string, unknown]>([
    ["manifest", null],
    ["manifest", "p"],
    ["manifest", []],
    ["manifest.task", { ...MANIFEST, task: "do" }],
    ["manifest.input", { ...MANIFEST, input: [1] }],
    ["manifest.tags", { ...MANIFEST, tags: "env" }],
  ])("%s must be an object", (field, manifest) => {
    expectInvalid(
      () => claimRequest({ ...CLAIM, manifest: manifest as DurableRunManifest }),
      field,
      "must be an object",
    );
  });

  test("a manifest that is not JSON is refused with the place", () => {
    const input = { pages: [{ load: () => 1 }] };
    expect(() => claimRequest({ ...CLAIM, manifest: { ...MANIFEST, input } })).toThrow(
      expect.objectContaining({
        code: "payload_not_json",
        message: expect.stringContaining("manifest.input.pages[0].load is a function") as string,
      }),
    );
  });

  test("an outcome has at most 256 KiB", () => {
    const notes = "x".repeat(262_144 - '{"notes":""}'.length);
    expect(() => endRequest({ ...END, outcome: { notes } })).not.toThrow();
    expect(() => endRequest({ ...END, outcome: { notes: `${notes}x` } })).toThrow(
      expect.objectContaining({
        code: "payload_too_large",
        message: expect.stringContaining(
          "outcome has 262145 bytes as JSON; at most 262144 are allowed",
        ) as string,
      }),
    );
  });

  test("a failure is cut to size rather than refused, so that it is never lost", () => {
    const request = failRequest({
      ...FAIL,
      error: { message: "é".repeat(100_000), stack: "s".repeat(100_000), code: "E" },
    });
    const kept = JSON.parse(request.error) as { message: string; stack: string; code: string };
    expect(byteLength(kept.message)).toBeLessThanOrEqual(16_384);
    expect(byteLength(kept.stack)).toBeLessThanOrEqual(16_384);
    expect(kept.message).toMatch(/^é+… \(cut\)$/);
    expect(kept.code).toBe("E");
  });
});

describe("cutText", () => {
  const MARK = "… (cut)";
  const anyText = fc.string({ unit: "binary", maxLength: 60 });

  test("keeps within the bytes, never splits a character, and marks the cut", () => {
    fc.assert(
      fc.property(anyText, fc.integer({ min: byteLength(MARK), max: 80 }), (text, maxBytes) => {
        const cut = cutText(text, maxBytes);
        if (byteLength(text) <= maxBytes) {
          expect(cut).toBe(text);
          return;
        }
        expect(byteLength(cut)).toBeLessThanOrEqual(maxBytes);
        expect(cut.isWellFormed()).toBe(true);
        expect(cut.endsWith(MARK)).toBe(true);
        expect(text.startsWith(cut.slice(0, -MARK.length))).toBe(true);
        // At most the bytes of one character are given away.
        expect(byteLength(cut)).toBeGreaterThan(maxBytes - 4);
      }),
      { numRuns: 500 },
    );
  });

  test("drops a character that does not fit as a whole", () => {
    expect(cutText("ab😀cdefghijkl", byteLength(MARK) + 3)).toBe(`ab${MARK}`);
    expect(cutText("ab😀cdefghijkl", byteLength(MARK) + 6)).toBe(`ab😀${MARK}`);
  });

  test("a text of just the bytes stays whole", () => {
    expect(cutText("é".repeat(20), 40)).toBe("é".repeat(20));
    expect(cutText("é".repeat(20), 39)).not.toBe("é".repeat(20));
  });
});
