/**
 * A fork of a run that is not at rest: it is read in pages and steps, while its worker goes on, or somebody restarts it,
 * and what comes of it is the run as it was at one moment (R34).
 */
import { describe, expect, test } from "vitest";
import type { ForkRunOptions } from "../src/contract/types.ts";
import { COPY, Source } from "./helpers/forked-source.ts";
import type { JournalCall } from "./helpers/paged-store.ts";
import { rejection } from "./support/world.ts";

describe("a fork of a run whose worker goes on", () => {
  test("has a step that ended while it was read, if it has one that began after that", async () => {
    const source = new Source();
    source.run(0);
    source.begin(1);
    // Page 1 has steps 0 and 1, and says that step 1 runs.
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.complete(1);
      source.complete(2);
      source.run(3);
    });
    await source.fork(3);
    expect(source.copied()).toEqual([0, 1, 2, 3].map((position) => [position, `result ${position}`]));
  });

  test("has a failure that was caught while it was read, if it has what began after that", async () => {
    const source = new Source();
    source.run(0);
    source.begin(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.fail(1);
      source.complete(2);
      source.begin(3, 1);
      source.complete(3);
    });
    await source.fork(3);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, "failed"],
      [2, "result 2"],
      [3, "result 3"],
    ]);
  });

  test("has the failure that the task went on from, and not an earlier one of the same step", async () => {
    const source = new Source();
    source.begin(0);
    source.fail(0, { error: '{"message":"the first"}' });
    source.run(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.begin(0);
      source.fail(0, { error: '{"message":"the last"}' });
      source.complete(2);
      source.begin(3, 0);
      source.complete(3);
    });
    await source.fork(3);
    expect(source.copied().map(([position]) => position)).toEqual([0, 1, 2, 3]);
    const { status, error } = source.store.ledger(COPY).step(0);
    expect({ status, error }).toEqual({ status: "failed", error: '{"message":"the last"}' });
  });

  test("has a step that came after a later position, if it has what began after that step had ended", async () => {
    const source = new Source();
    // Two branches, and the first step of one is begun late: its begin was still on its way.
    for (const position of [0, 2, 3]) source.begin(position);
    source.beforeThe(2, "steps", () => source.run(1, 4));
    await source.fork(4);
    expect(source.copied()).toEqual([
      [1, "result 1"],
      [4, "result 4"],
    ]);
  });

  test("does not take a step for under way that has failed, begun again and ended meanwhile", async () => {
    const source = new Source();
    source.begin(0);
    source.run(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.fail(0, { retryAfterMs: 0 });
      source.begin(0);
      source.complete(0, "at last");
      source.complete(2);
    });
    await source.fork(2);
    expect(source.copied()).toEqual([
      [0, "at last"],
      [1, "result 1"],
      [2, "result 2"],
    ]);
  });

  test("leaves a step out that fails and begins again at each reading, and is open at the end of one", async () => {
    const source = new Source();
    source.begin(0);
    source.run(1);
    let left = 5;
    source.during((call) => {
      if (call !== "step" || left === 0) return;
      left -= 1;
      source.fail(0, { retryAfterMs: 0 });
      source.begin(0);
    });
    await source.fork(1);
    expect(source.copied()).toEqual([[1, "result 1"]]);
  });

  test("has what was decided on a parked step while it was read, if it has what began after that", async () => {
    const source = new Source();
    source.begin(0);
    source.park(0);
    source.run(1);
    source.begin(2);
    source.beforeThe(2, "steps", () => {
      source.resolve(0, "decided");
      source.complete(2);
    });
    await source.fork(2);
    expect(source.copied()).toEqual([
      [0, "decided"],
      [1, "result 1"],
      [2, "result 2"],
    ]);
  });

  test("reads what is at rest up to the cut, and looks once whether it was, whatever goes on behind it", async () => {
    const source = new Source();
    source.run(0, 1, 2);
    let [next, readings] = [3, 0];
    source.during((call) => {
      readings += call === "steps" ? 1 : 0;
      if (next < 6) source.run(next++);
    });
    await source.fork(1);
    expect(source.copied()).toEqual([0, 1].map((position) => [position, `result ${position}`]));
    // Three pages each time.
    expect(readings).toBe(6);
  });

  test("is of the run as it was, when the source goes on, ends or is cancelled while the copies are made", async () => {
    for (const act of ["complete", "end", "cancel"] as const) {
      const source = new Source();
      source.run(0);
      source.begin(1);
      source.store.before = (call) => {
        if (call !== "copy") return;
        if (act === "complete") source.complete(1);
        else source[act]();
      };
      await source.fork(1);
      expect(source.copied()).toEqual([[0, "result 0"]]);
    }
  });
});

describe("a failure that the task has gone on from", () => {
  test("is not copied while only a step names it that has not completed", async () => {
    const source = new Source();
    source.begin(0);
    source.fail(0);
    source.run(1);
    source.begin(2, 0);
    await source.fork(2);
    expect(source.copied()).toEqual([[1, "result 1"]]);
  });

  test("is copied once such a step has completed, and so is one that a copied failure names", async () => {
    const source = new Source();
    source.begin(0);
    source.fail(0);
    source.begin(1, 0);
    source.fail(1);
    source.begin(2, 1);
    source.complete(2);
    await source.fork(2);
    expect(source.copied()).toEqual([
      [0, "failed"],
      [1, "failed"],
      [2, "result 2"],
    ]);
  });

  test("is not copied by what names it behind the cut", async () => {
    const source = new Source();
    source.begin(0);
    source.fail(0);
    source.run(1);
    source.begin(2, 0);
    source.complete(2);
    await source.fork(1);
    expect(source.copied()).toEqual([[1, "result 1"]]);
  });
});

describe("a fork of a run that is restarted while it is read", () => {
  test.each<[number, JournalCall]>([
    [1, "manifest"],
    [1, "run"],
    [1, "steps"],
    [2, "steps"],
    [2, "run"],
  ])("has nothing of before and after at once: before call %i of %s", async (nth, call) => {
    const source = new Source();
    source.run(0, 1, 2, 3);
    source.beforeThe(nth, call, () => {
      source.restart(1);
      for (const position of [1, 2, 3]) {
        source.begin(position);
        source.complete(position, `anew ${position}`);
      }
    });
    await source.fork(3);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, "anew 1"],
      [2, "anew 2"],
      [3, "anew 3"],
    ]);
  });

  test("is of the run as it was, when the restart comes after the last reading", async () => {
    for (const call of ["fork", "copy", "seal"] as const) {
      const source = new Source();
      source.run(0, 1, 2);
      let isRestarted = false;
      source.store.before = (each) => {
        if (each !== call || isRestarted) return;
        isRestarted = true;
        source.restart(0);
        source.begin(0);
        source.complete(0, "anew");
      };
      await source.fork(2);
      expect(isRestarted).toBe(true);
      expect(source.copied()).toEqual([0, 1, 2].map((position) => [position, `result ${position}`]));
    }
  });

  test("is refused, and makes no run, when the cut is dropped meanwhile", async () => {
    for (const nth of [1, 2]) {
      const source = new Source();
      source.run(0, 1, 2, 3);
      source.beforeThe(nth, "steps", () => source.restart(2));
      expect(await rejection(source.fork(3))).toMatchObject({ code: "invalid_input", field: "throughStep" });
      expect(await source.store.loadRun(COPY)).toBeUndefined();
      await source.fork(1);
      expect(source.copied()).toEqual([0, 1].map((position) => [position, `result ${position}`]));
    }
  });

  test("reads again when the source was only claimed anew, and comes to the same", async () => {
    const source = new Source();
    source.run(0, 1);
    source.beforeThe(2, "run", () => source.claim());
    await source.fork(1);
    expect(source.copied()).toEqual([0, 1].map((position) => [position, `result ${position}`]));
  });

  test.each([
    [9, "it is of the run as it then stands"],
    [10, "nothing is known, and no run is made: it may be called again"],
  ])("of a source that is at rest after %i readings %s", async (changes) => {
    const source = new Source();
    source.run(0, 1);
    let left = changes;
    // A reading looks at the run twice.
    let looks = 0;
    source.during((call) => {
      if (call !== "run" || (looks += 1) % 2 === 1 || left === 0) return;
      left -= 1;
      source.restart(1);
      source.begin(1);
      source.complete(1, left);
    });
    const fork = source.fork(1);
    if (changes === 10) {
      expect(await rejection(fork)).toMatchObject({ code: "store_unavailable" });
      expect(await source.store.loadRun(COPY)).toBeUndefined();
      await source.fork(1);
    } else await fork;
    expect(left).toBe(0);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, 0],
    ]);
  });
});

describe("a fork that was cut short, and is called again after the source was restarted", () => {
  test.each<[string, Partial<ForkRunOptions>]>([
    ["the same request id", { requestId: "fork-1" }],
    ["another request id", {}],
  ])("has nothing of what it had copied at first: under %s", async (_which, options) => {
    const source = new Source();
    source.run(0, 1, 2, 3);
    source.store.before = (call) => {
      if (call === "seal") throw new Error("the process dies");
    };
    await rejection(source.fork(3, options));
    expect(source.copied()).toHaveLength(4);
    source.store.before = () => {};
    source.restart(1);
    source.begin(1);
    source.complete(1, "anew");
    source.begin(2);
    source.begin(3);
    source.complete(3, "anew, too");
    await source.fork(3, options);
    expect(source.copied()).toEqual([
      [0, "result 0"],
      [1, "anew"],
      [3, "anew, too"],
    ]);
    expect(source.store.ledger(COPY).theRun).toMatchObject({ fence: 2, forkedFrom: { copying: false } });
  });
});
