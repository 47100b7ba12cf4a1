/** The arithmetic of the benchmark: medians, ratios within a round, the order of rows, and what counts as reached. */
import { describe, expect, it } from "vitest";
import { noCounts } from "../../bench/counts/counters.ts";
import { differenceOf, figureOf, ratioOf, shown, sumOf } from "../../bench/lib/figures.ts";
import type { MeasuredWork } from "../../bench/lib/rounds.ts";
import { inTurn, measured } from "../../bench/lib/rounds.ts";
import type { Target } from "../../bench/lib/targets.ts";
import { targetsOf } from "../../bench/lib/targets.ts";
import { FLOORS } from "../../bench/lib/works.ts";

describe("figureOf", () => {
  it("takes the middle one of an odd number of samples, in any order", () => {
    expect(figureOf([9, 1, 2])).toEqual({ median: 2, min: 1, max: 9 });
  });

  it("takes the mean of the two in the middle of an even number", () => {
    expect(figureOf([10, 2, 4, 1])).toEqual({ median: 3, min: 1, max: 10 });
  });

  it("orders samples as numbers, and leaves the list as it was", () => {
    const samples = [100, 20, 3];
    expect(figureOf(samples).median).toBe(20);
    expect(samples).toEqual([100, 20, 3]);
  });

  it("throws when nothing was measured", () => {
    expect(() => figureOf([])).toThrow("nothing was measured");
  });
});

describe("ratioOf", () => {
  it("divides within each round, and takes the median of the ratios, not the ratio of the medians", () => {
    const [above, below] = [
      [2, 30, 12],
      [1, 10, 2],
    ];
    expect(ratioOf(above, below)).toEqual({ median: 3, min: 2, max: 6 });
    expect(figureOf(above).median / figureOf(below).median).toBe(6);
  });

  it("has no bound where nothing, or less, is left below the line", () => {
    expect(ratioOf([1, 2, 3], [0, -1, 3])).toEqual({ median: Infinity, min: 1, max: Infinity });
    expect(shown(ratioOf([1], [0]).median)).toBe("∞");
  });
});

describe("sumOf and differenceOf", () => {
  it("add and subtract round by round", () => {
    expect(sumOf([1, 2], [10, 20], [100, 200])).toEqual([111, 222]);
    expect(differenceOf([5, 1], [2, 3])).toEqual([3, -2]);
  });
});

describe("shown", () => {
  it.each([
    [0.04567, "0.046"],
    [1.4567, "1.46"],
    [14.567, "14.6"],
    [145.67, "146"],
    [Number.NaN, "–"],
  ])("shows %d as %s", (value, text) => {
    expect(shown(value)).toBe(text);
  });
});

describe("the order of a round", () => {
  it("has each row once, begins with another one, and goes backwards every other time", () => {
    expect([-1, 0, 1, 2, 3].map((round) => inTurn(["a", "b", "c", "d"], round).join(""))).toEqual([
      "abcd",
      "abcd",
      "adcb",
      "cdab",
      "cbad",
    ]);
  });
});

describe("measured", () => {
  it("keeps the samples of a row by round, prepares once, and drops the warm-up", async () => {
    const calls: string[] = [];
    let next = 0;
    const row = (subject: string) => ({
      subject,
      variant: "",
      prepare: async () => void calls.push(`prepare ${subject}`),
      measure: async () => {
        calls.push(subject);
        next += 1;
        return next;
      },
    });
    const work = { id: "W", title: "", unit: "ms", rows: [row("a"), row("b")] };
    const { rows } = await measured(work, 2, () => {});
    expect(calls).toEqual(["prepare a", "prepare b", "a", "b", "a", "b", "a", "b"]);
    expect(rows.map(({ subject, samples }) => [subject, samples])).toEqual([
      ["a", [3, 5]],
      ["b", [4, 6]],
    ]);
  });
});

const COORDINATOR = "coordinated, ack coordinator";
const RECORD = "coordinated, ack record";

function workOf(id: string, samples: Readonly<Record<string, number[]>>): MeasuredWork {
  const rows = Object.entries(samples).map(([name, list]) => {
    const [subject = "", variant = ""] = name.split(" | ");
    return { subject, variant, samples: list };
  });
  return { id, title: "", unit: "ms", rows };
}

function targetOf(begin: string, input: Partial<Parameters<typeof targetsOf>[0]>): Target {
  const found = targetsOf({ works: [], memory: [], counts: [], ...input }).filter(({ what }) =>
    what.startsWith(begin),
  );
  expect(found).toHaveLength(1);
  return found[0] as Target;
}

describe("targetsOf", () => {
  it("compares a step with the sum of its two floors", () => {
    const floors = { [FLOORS.noop]: [1], [FLOORS.write]: [3] };
    const reached = (step: number): unknown => {
      const works = [workOf("W1", { ...floors, [COORDINATOR]: [step] })];
      const { measured: ratio, reached: is } = targetOf(
        "W1 ack coordinator ÷ (no-op RPC + RPC with a write)",
        { works },
      );
      return [ratio?.median, is];
    };
    expect(reached(4)).toEqual([1, true]);
    expect(reached(8)).toEqual([2, false]);
  });

  it("takes a message's way off both sides of an event", () => {
    const works = [workOf("W4", { [FLOORS.line]: [1], [FLOORS.write]: [3], [RECORD]: [9] })];
    const { measured: ratio, reached } = targetOf("W4 coordinated, ack record ÷ RPC with a write", { works });
    expect(ratio?.median).toBe(4);
    expect(reached).toBe(false);
  });

  it("does not take a floor within the noise for a target that is reached", () => {
    const works = [workOf("W4", { [FLOORS.line]: [3], [FLOORS.write]: [2], [RECORD]: [9] })];
    expect(targetOf("W4 coordinated, ack record ÷ RPC with a write", { works }).reached).toBe(false);
  });

  it("judges a ratio by its median, and the other direction as such", () => {
    const works = [workOf("W1", { "Workflows, local engine": [4, 6, 1], [COORDINATOR]: [2, 2, 2] })];
    const { measured: ratio, reached } = targetOf("W1 Workflows ÷ ack coordinator", { works });
    expect(ratio).toEqual({ median: 2, min: 0.5, max: 3 });
    expect(reached).toBe(true);
  });

  it("compares variants of one row for a resume", () => {
    const works = [workOf("W5", { "files | 1,000 steps": [10], "files | 10,000 steps": [130] })];
    const { measured: ratio, reached } = targetOf("W5 files", { works });
    expect([ratio?.median, reached]).toEqual([13, false]);
  });

  it("judges memory by the highest of all resumes, where the kernel tells it", () => {
    const judged = (...resident: number[]): unknown => {
      const row = { subject: RECORD, peak: [1], looks: [1], live: [1] };
      const memory = [
        { ...row, variant: "from D1", resident: [100] } as const,
        { ...row, variant: "warm", resident } as const,
      ];
      const { measured: mb, reached } = targetOf(`W5 ${RECORD}, 10,000 steps`, { memory });
      return [mb?.max, reached];
    };
    expect(judged(20, 30, 129)).toEqual([129, false]);
    expect(judged(20, 30, 127)).toEqual([127, true]);
    expect(judged(20, 30, Number.NaN)).toEqual([undefined, undefined]);
  });

  it("judges counts by themselves", () => {
    const none = noCounts();
    const cost = { run: none, stepOfMany: none, heartbeat: none };
    const counts = [{ ...cost, store: RECORD, step: { ...none, d1RoundTrips: 1.01 } }];
    const { measured: trips, reached } = targetOf("D1 round trips a step, ack record", { counts });
    expect([trips?.median, reached]).toEqual([1.01, false]);
  });

  it("says of what was not measured that it is neither reached nor missed", () => {
    for (const target of targetsOf({ works: [], memory: [], counts: [] }))
      expect(target).toMatchObject({ measured: undefined, reached: undefined });
  });
});
