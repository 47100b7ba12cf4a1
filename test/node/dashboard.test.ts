/** What the dashboard works out before it draws: pure functions, without a browser. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatBytes, formatDuration, formatRelative } from "../../dashboard/src/format.ts";
import { filtersOf, withHead, withOlder } from "../../dashboard/src/run-list.ts";
import { StepPages } from "../../dashboard/src/run/step-pages.ts";
import { stateOf, ticksOf, timelineOf } from "../../dashboard/src/run/timeline.ts";
import { endsChart, stacked } from "../../dashboard/src/stats/charts.ts";
import type { HistoryStep, RunStats, RunSummary, StepPage } from "../../src/history/types.ts";

const CREATED = "2026-01-01T00:00:00.000Z";

function at(ms: number): string {
  return new Date(Date.parse(CREATED) + ms).toISOString();
}

function step(stepIndex: number, of: Partial<HistoryStep> = {}): HistoryStep {
  const ended = {
    status: "completed",
    startedAt: at(stepIndex * 10),
    completedAt: at(stepIndex * 10 + 5),
  } as const;
  return { runId: "r", stepIndex, intent: "i", kind: "tool", inputHash: "", attempts: 1, ...ended, ...of };
}

function run(runId: string, ms: number): RunSummary {
  return {
    runId,
    manifestHash: "",
    projectId: "p",
    status: "completed",
    createdAt: at(ms),
    updatedAt: at(ms),
    task: { id: "t", intent: "i" },
  };
}

describe("the timeline", () => {
  test("begins with the run, and places each step by its latest attempt", () => {
    const { origin, end, rows } = timelineOf(CREATED, [step(0), step(3)]);
    expect(origin).toBe(Date.parse(CREATED));
    expect(rows.map(({ start, end: to }) => [start, to])).toEqual([
      [0, 5],
      [30, 35],
    ]);
    expect(end).toBe(35);
  });

  test("begins earlier where a fork brought earlier steps", () => {
    const { rows } = timelineOf(at(1_000), [step(0), step(1)]);
    expect(rows.map(({ start }) => start)).toEqual([0, 10]);
  });

  test("gives no end to what is under way, and no bar to what has not begun", () => {
    const underWay = {
      runId: "r",
      stepIndex: 0,
      intent: "i",
      kind: "tool",
      inputHash: "",
      attempts: 1,
    } as const;
    const [running, pending] = timelineOf(CREATED, [
      { ...underWay, status: "running", startedAt: at(7) },
      { ...underWay, status: "pending", attempts: 0 },
    ]).rows;
    expect(running).toMatchObject({ state: "running", start: 7 });
    expect(running).not.toHaveProperty("end");
    expect(pending).not.toHaveProperty("start");
  });

  test.each<[string, Partial<HistoryStep>]>([
    ["completed", { status: "completed", inDoubt: true }],
    ["in doubt", { status: "pending", inDoubt: true }],
    ["in doubt", { status: "failed", inDoubt: true }],
    ["running", { status: "running", inDoubt: true }],
    ["waiting", { status: "running", deadlineAt: at(9) }],
    ["retrying", { status: "pending", nextAttemptAt: at(9) }],
    ["pending", { status: "pending" }],
    ["failed", { status: "failed" }],
  ])("says %s of %o", (state, of) => {
    expect(stateOf(step(0, of))).toBe(state);
  });

  test.each<[string | undefined, number, string | undefined]>([
    [undefined, 0, undefined],
    ["3", 0, undefined],
    ["1/reviewer/0", 1, "reviewer"],
    ["1/law/2/first/0", 2, "first"],
    ["1/law/2", 1, "law"],
  ])("of the path %s, the depth is %i and the branch %s", (path, depth, branch) => {
    const [row] = timelineOf(CREATED, [step(0, path === undefined ? {} : { path })]).rows;
    expect([row?.depth, row?.branch]).toEqual([depth, branch]);
  });

  test("has few marks, at equal distances, within its span", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 * 86_400_000 }), (span) => {
        const marks = ticksOf(span);
        const distance = marks[1]?.at ?? span + 1;
        expect(marks.length).toBeLessThanOrEqual(7);
        expect(marks.map((mark) => mark.at)).toEqual(marks.map((_, i) => i * distance));
        expect(marks.at(-1)?.at).toBeLessThanOrEqual(span);
      }),
    );
  });
});

describe("the list", () => {
  const head = { runs: [run("d", 4), run("c", 3)], cursor: "next" };

  test("keeps what a newer head pushed out", () => {
    const known = [run("c", 3), run("b", 2), run("a", 1)];
    expect(withHead(head, known).map(({ runId }) => runId)).toEqual(["d", "c", "b", "a"]);
  });

  test("drops what the head should have and lacks, and all that is behind a head that is the whole", () => {
    const known = [run("gone", 5), run("c", 3), run("a", 1)];
    expect(withHead(head, known).map(({ runId }) => runId)).toEqual(["d", "c", "a"]);
    expect(withHead({ runs: head.runs }, known)).toEqual(head.runs);
  });

  test("takes each run of an older page once", () => {
    expect(withOlder(head.runs, { runs: [run("c", 3), run("b", 2)] }).map(({ runId }) => runId)).toEqual([
      "d",
      "c",
      "b",
    ]);
  });

  test("passes on the filters that it knows, and nothing else", () => {
    const query = new URLSearchParams("status=failed&status=running&cursor=x&tag=a:b&projectId=&evil=1");
    expect(filtersOf(query).toString()).toBe("status=failed&status=running&tag=a%3Ab");
  });
});

describe("the pages of steps", () => {
  const whole: StepPage = { steps: [step(0), step(1)], cursor: "2" };
  const last: StepPage = { steps: [step(2)] };

  async function asked(pages: StepPages, fence: number, first: StepPage): Promise<(string | undefined)[]> {
    const cursors: (string | undefined)[] = [];
    await pages.load(fence, 10, async (_limit, cursor) => {
      cursors.push(cursor);
      return cursor === undefined ? first : last;
    });
    return cursors;
  }

  test("are asked for again unless all of them has completed and more follow", async () => {
    const pages = new StepPages();
    expect(await asked(pages, 1, whole)).toEqual([undefined, "2"]);
    expect(await asked(pages, 1, whole)).toEqual(["2"]);
  });

  test("are all asked for again under another fence: a restart forgets steps", async () => {
    const pages = new StepPages();
    await asked(pages, 1, whole);
    expect(await asked(pages, 2, whole)).toEqual([undefined, "2"]);
  });

  test("with a gap or an unfinished step are asked for again", async () => {
    for (const steps of [
      [step(0), step(2)],
      [step(0), step(1, { status: "running" })],
    ]) {
      const pages = new StepPages();
      await asked(pages, 1, { steps, cursor: "2" });
      expect(await asked(pages, 1, whole)).toEqual([undefined, "2"]);
    }
  });

  test("are loaded up to as many as are wanted", async () => {
    const loaded = await new StepPages().load(1, 1, async () => whole);
    expect(loaded).toEqual({ pages: [whole], hasMore: true });
  });
});

test("stacked series stand on those before them, and what is missing counts nothing", () => {
  const series = [
    { at: at(0), completed: 2, failed: 1, cancelled: 0 },
    { at: at(1), completed: 0, failed: 4, cancelled: 3 },
  ];
  expect(stacked(endsChart({ series } as RunStats).series)).toEqual([
    [2, 0],
    [3, 4],
    [3, 7],
  ]);
});

test.each<[number, string]>([
  [0, "0 ms"],
  [999, "999 ms"],
  [1_000, "1.0 s"],
  [9_999, "9.9 s"],
  [59_999, "59 s"],
  [185_000, "3 m 5 s"],
  [7_200_000, "2 h"],
  [86_400_000 * 3 + 3_600_000 * 4, "3 d 4 h"],
])("%i ms is written as %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test("instants are told from now, and sizes in the unit that fits", () => {
  const now = Date.parse(CREATED);
  expect([at(-61_000), at(-400), at(90_000)].map((each) => formatRelative(each, now))).toEqual([
    "1 m ago",
    "now",
    "in 1 m",
  ]);
  expect([512, 3_482, 1_258_291].map(formatBytes)).toEqual(["512 B", "3.4 KB", "1.2 MB"]);
});
