/** The rules of a step: begin, complete, fail (R5, R23, R24). */
import { describe, expect, test } from "vitest";
import { beginOf, completeOf, endOf, failOf, LEASE_MS, stepOf, TinyJournal } from "./helpers/ledger.ts";
import { begun, claimed, completed, failed, takenOver } from "./helpers/ledger-worlds.ts";

describe("a begin", () => {
  test("records the first attempt", () => {
    const ledger = claimed();
    const begin = beginOf({ stepIndex: 3, inputHash: "in-1", timeoutMs: 500, caught: [1] });
    const { step } = ledger.accepts(begin);
    expect(step).toEqual(
      stepOf({ stepIndex: 3, inputHash: "in-1", deadlineAt: ledger.now + 500, caught: [1] }),
    );
    expect(ledger.step(3)).toEqual(step);
  });

  test("repeated under its request id counts one attempt, also when the step has ended since", () => {
    for (const ledger of [begun(), completed(), failed()]) {
      ledger.now += 10;
      expect(ledger.answers(beginOf()).step).toEqual(ledger.step());
      expect(ledger.step().attempts).toBe(1);
    }
  });

  test("under another request id is another attempt, of the worker that holds the run now", () => {
    const ledger = takenOver(begun());
    ledger.now += 10;
    const { step } = ledger.accepts(beginOf({ requestId: "begin-2", fence: 2 }));
    const changed = {
      attempts: 2,
      tries: 2,
      workerId: "bob",
      fence: 2,
      startedAt: ledger.now,
      beginRequestId: "begin-2",
    };
    expect(step).toEqual(stepOf(changed));
  });

  test("of a failed step runs it again, and keeps its error as the last failure", () => {
    const ledger = failed();
    const { error } = ledger.step();
    const { step } = ledger.accepts(beginOf({ requestId: "begin-2" }));
    expect(error).toBe('{"message":"no route"}');
    expect(step).toMatchObject({ status: "running", attempts: 2, error, completedAt: null });
  });

  test("of a completed step answers its record, also when the run has ended", () => {
    const ledger = completed();
    const step = ledger.step();
    expect(ledger.answers(beginOf({ requestId: "begin-2" }))).toEqual({ step });
    ledger.accepts(endOf());
    expect(ledger.answers(beginOf({ requestId: "begin-3" }))).toEqual({ step });
  });

  test.each([
    ["intent", { intent: "parse" }, 'tool "parse"'],
    ["kind", { kind: "llm" as const }, 'llm "fetch"'],
  ])(
    "with another %s is refused, naming both sides, whatever the step's status (R23)",
    (_what, facts, asked) => {
      for (const ledger of [begun(), completed(), failed()]) {
        const error = ledger.refuses(beginOf({ requestId: "begin-2", ...facts }));
        expect(error.code).toBe("step_divergence");
        expect(error.message).toContain('step 0 of run "run-1" was recorded as tool "fetch"');
        expect(error.message).toContain(`now comes with ${asked}`);
      }
    },
  );

  test("from another path is refused, naming both, whatever the step's status (R23)", () => {
    for (const ledger of [begun(), completed(), failed()]) {
      expect(ledger.refuses(beginOf({ requestId: "begin-2", path: "1/reviewer/0" }))).toEqual({
        code: "step_divergence",
        message:
          'step 0 of run "run-1" was recorded at path 0, but the code now comes there from path 1/reviewer/0.',
      });
    }
  });

  test("keeps the path that it was begun at", () => {
    const ledger = claimed();
    const at = beginOf({ stepIndex: 4, path: "1/reviewer/0" });
    expect(ledger.accepts(at).step.path).toBe("1/reviewer/0");
    expect(ledger.accepts({ ...at, requestId: "begin-2" }).step).toMatchObject({
      path: "1/reviewer/0",
      attempts: 2,
    });
    expect(ledger.refuses({ ...at, requestId: "begin-3", path: "4" }).code).toBe("step_divergence");
  });

  test("with another input is refused, naming both hashes (R23)", () => {
    const ledger = claimed();
    ledger.accepts(beginOf({ inputHash: "in-1" }));
    const error = ledger.refuses(beginOf({ requestId: "begin-2", inputHash: "in-2" }));
    expect(error.code).toBe("step_input_mismatch");
    expect(error.message).toContain("recorded with input hash in-1, but now has in-2");
    expect(error.message).toContain('step 0 of run "run-1" ("fetch")');
  });

  test("compares inputs only when both sides have a hash, and keeps the first hash that it is given", () => {
    const ledger = begun();
    expect(ledger.accepts(beginOf({ requestId: "begin-2", inputHash: "in-1" })).step.inputHash).toBe("in-1");
    expect(ledger.accepts(beginOf({ requestId: "begin-3", inputHash: "" })).step.inputHash).toBe("in-1");
    expect(ledger.refuses(beginOf({ requestId: "begin-4", inputHash: "in-2" })).code).toBe(
      "step_input_mismatch",
    );
  });

  test("fixes the deadline of a wait the first time, however late it begins again (R24)", () => {
    const ledger = claimed();
    const deadlineAt = ledger.now + 500;
    ledger.accepts(beginOf({ timeoutMs: 500 }));
    ledger.now += 10_000;
    expect(ledger.accepts(beginOf({ requestId: "begin-2", timeoutMs: 90_000 })).step.deadlineAt).toBe(
      deadlineAt,
    );
    ledger.accepts(failOf());
    expect(ledger.accepts(beginOf({ requestId: "begin-3", timeoutMs: null })).step.deadlineAt).toBe(
      deadlineAt,
    );
  });

  test("that waits 0 ms has its deadline now, and one that names no wait has none", () => {
    const ledger = claimed();
    expect(ledger.accepts(beginOf({ timeoutMs: 0 })).step.deadlineAt).toBe(ledger.now);
    expect(ledger.accepts(beginOf({ stepIndex: 1 })).step.deadlineAt).toBeNull();
  });

  test("adds the failures that the task saw to those that an earlier attempt told of", () => {
    const ledger = claimed();
    ledger.accepts(beginOf({ stepIndex: 5, caught: [3, 1, 3] }));
    const { step } = ledger.accepts(beginOf({ stepIndex: 5, requestId: "begin-2", caught: [1, 4] }));
    expect(step.caught).toEqual([3, 1, 4]);
  });

  test("after the lease lapsed still counts while nobody else has claimed", () => {
    const ledger = claimed();
    ledger.now += LEASE_MS * 2;
    expect(ledger.accepts(beginOf()).step.attempts).toBe(1);
  });

  test("of a run that has ended is refused", () => {
    for (const status of ["completed", "failed"] as const) {
      const ledger = claimed();
      ledger.accepts(endOf({ status }));
      const error = ledger.refuses(beginOf());
      expect(error.code).toBe("lease_lost");
      expect(error.message).toContain(`run "run-1" is ${status}`);
    }
  });
});

describe("a completion", () => {
  test("records the result", () => {
    const ledger = begun();
    ledger.now += 7;
    const { step, accepted } = ledger.accepts(completeOf({ attempt: 1 }));
    expect(accepted).toBe(true);
    expect(step).toEqual(
      stepOf({ status: "completed", result: { text: '"page"' }, completedAt: ledger.now }),
    );
    expect(ledger.step()).toEqual(step);
  });

  test("repeated answers the standing record; the first result stands", () => {
    const ledger = completed();
    const step = ledger.step();
    ledger.now += 10;
    expect(ledger.answers(completeOf())).toEqual({ step, accepted: false });
    const other = completeOf({ requestId: "complete-2", result: { text: '"another"' } });
    expect(ledger.answers(other)).toEqual({ step, accepted: false });
  });

  test("of a completed step answers also after the run has ended", () => {
    const ledger = completed();
    ledger.accepts(endOf());
    expect(ledger.answers(completeOf())).toEqual({ step: ledger.step(), accepted: false });
  });

  test("of a failed attempt is refused: it has to begin again first", () => {
    expect(failed().refuses(completeOf())).toMatchObject({
      code: "step_not_running",
      message: 'cannot complete step 0 of run "run-1": attempt 1 has failed; begin it again first.',
    });
  });

  test("of a step that never began is refused", () => {
    expect(claimed().refuses(completeOf({ stepIndex: 4 }))).toMatchObject({
      code: "step_not_running",
      message: 'cannot complete step 4 of run "run-1": no such step has begun.',
    });
  });

  test("by the next holder stands under the next fence", () => {
    const ledger = takenOver(begun());
    const { step } = ledger.accepts(completeOf({ fence: 2 }));
    expect(step).toMatchObject({ status: "completed", fence: 2, attempts: 1 });
  });
});

describe("a failure", () => {
  test("records the error", () => {
    const ledger = begun();
    ledger.now += 7;
    const { step } = ledger.accepts(failOf({ attempt: 1 }));
    expect(step).toEqual(
      stepOf({ status: "failed", error: '{"message":"no route"}', completedAt: ledger.now }),
    );
    expect(ledger.step()).toEqual(step);
  });

  test("repeated answers the standing record; the first error stands", () => {
    const ledger = failed();
    const step = ledger.step();
    ledger.now += 10;
    expect(ledger.answers(failOf())).toEqual({ step });
    expect(
      ledger.answers(failOf({ requestId: "fail-2", error: '{"message":"another"}', attempt: 1 })),
    ).toEqual({ step });
    ledger.accepts(endOf({ status: "failed" }));
    expect(ledger.answers(failOf())).toEqual({ step });
  });

  test("of a completed step is refused: its result stands", () => {
    expect(completed().refuses(failOf())).toMatchObject({
      code: "step_not_running",
      message: 'cannot fail step 0 of run "run-1": it has completed, and its result stands.',
    });
  });

  test("of a step that never began is refused", () => {
    expect(claimed().refuses(failOf())).toMatchObject({
      code: "step_not_running",
      message: 'cannot fail step 0 of run "run-1": no such step has begun.',
    });
  });

  test("that comes late, for an earlier attempt, does not end the attempt that runs now", () => {
    const ledger = failed();
    ledger.accepts(beginOf({ requestId: "begin-2" }));
    expect(ledger.refuses(failOf({ attempt: 1 }))).toMatchObject({
      code: "step_not_running",
      message: 'cannot fail step 0 of run "run-1": attempt 1 is over; attempt 2 is running.',
    });
    expect(ledger.accepts(failOf({ attempt: 2 })).step).toMatchObject({ status: "failed", attempts: 2 });
    expect(ledger.refuses(failOf({ attempt: 1 })).message).toContain(
      "attempt 1 is over; attempt 2 is failed",
    );
  });

  test("that does not say which attempt ends the one that runs", () => {
    const ledger = failed();
    ledger.accepts(beginOf({ requestId: "begin-2" }));
    expect(ledger.accepts(failOf({ attempt: null })).step).toMatchObject({ status: "failed", attempts: 2 });
  });
});

describe.each([
  ["begin", beginOf],
  ["complete", completeOf],
  ["fail", failOf],
] as const)("%s", (_op, requestOf) => {
  test("is refused in an unknown run", () => {
    expect(new TinyJournal().refuses(requestOf())).toMatchObject({
      code: "run_not_found",
      message: expect.stringContaining('"run-1"') as string,
    });
  });

  test("under a fence that is not the run's is refused, naming both (R5)", () => {
    const ledger = takenOver(begun());
    for (const fence of [1, 3]) {
      const error = ledger.refuses(requestOf({ fence }));
      expect(error.code).toBe("lease_lost");
      expect(error.message).toContain(
        `under fence ${fence} is lost: the run stands at fence 2, held by worker "bob"`,
      );
    }
  });

  test("without a fence is taken, since it names no worker that could be held to the lease", () => {
    const ledger = takenOver(begun());
    const { step } = ledger.accepts(requestOf({ fence: null, requestId: "late" }));
    expect(step).toMatchObject({ fence: 2 });
  });
});

describe.each([
  ["complete", completeOf],
  ["fail", failOf],
] as const)("%s of a step that still runs", (_op, requestOf) => {
  test.each(["completed", "failed"] as const)("is refused once the run has %s", (status) => {
    const ledger = begun();
    ledger.accepts(endOf({ status }));
    const error = ledger.refuses(requestOf());
    expect(error).toMatchObject({
      code: "lease_lost",
      message: expect.stringContaining(`is ${status}`) as string,
    });
  });
});
