/** Ranges of statistics: their limits, their entries, and the periods that make them up. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DurableInvalidInputError } from "../src/contract/errors.ts";
import { entriesOf, piecesOf, rangeOf } from "../src/history/periods.ts";
import type { StatsOptions } from "../src/history/types.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW = Date.parse("2026-03-15T10:20:30.400Z");

/** The range as texts. */
function range(options: StatsOptions): [string, string] {
  const { from, to } = rangeOf(options, NOW);
  return [new Date(from).toISOString(), new Date(to).toISOString()];
}

function refusedField(options: unknown): string {
  try {
    rangeOf(options as StatsOptions, NOW);
  } catch (error) {
    if (error instanceof DurableInvalidInputError) return error.field;
    throw error;
  }
  return "none";
}

describe("the range", () => {
  it("is the last 24 hours, this one included, or the last 30 days", () => {
    expect(range({})).toEqual(["2026-03-14T11:00:00.000Z", "2026-03-15T11:00:00.000Z"]);
    expect(range({ by: "day" })).toEqual(["2026-02-14T00:00:00.000Z", "2026-03-16T00:00:00.000Z"]);
  });

  it("is widened to whole hours or days, and left as it is where it has them", () => {
    const [from, to] = ["2026-03-01T08:30:00Z", "2026-03-02T12:00:00Z"];
    expect(range({ from, to })).toEqual(["2026-03-01T08:00:00.000Z", "2026-03-02T12:00:00.000Z"]);
    expect(range({ from, to, by: "day" })).toEqual(["2026-03-01T00:00:00.000Z", "2026-03-03T00:00:00.000Z"]);
    expect(range({ from: "2026-03-01", to: "2026-03-02" })).toEqual([
      "2026-03-01T00:00:00.000Z",
      "2026-03-02T00:00:00.000Z",
    ]);
  });

  it("takes an instant of any zone, and refuses one without", () => {
    expect(range({ from: "2026-03-15T02:00:00+01:00" })[0]).toBe("2026-03-15T01:00:00.000Z");
    expect(refusedField({ from: "2026-03-15T02:00:00" })).toBe("from");
  });

  it("is at most 31 days by the hour, and 2 years by the day", () => {
    const ago = (days: number): string => new Date(NOW - days * DAY_MS).toISOString();
    expect([...entriesOf(rangeOf({ from: ago(31) }, NOW))]).toHaveLength(31 * 24 + 1);
    expect(refusedField({ from: ago(31.1) })).toBe("from");
    expect([...entriesOf(rangeOf({ from: ago(732), by: "day" }, NOW))]).toHaveLength(733);
    expect(refusedField({ from: ago(734), by: "day" })).toBe("from");
  });

  it.each([
    ["by", { by: "week" }],
    ["from", { from: "yesterday" }],
    ["from", { from: "2026-02-31T25:00:00Z" }],
    ["from", { from: NOW }],
    ["to", { to: "" }],
    ["from", { from: "2026-03-02T00:00:00Z", to: "2026-03-02T00:00:00Z" }],
    ["from", { from: "2026-03-15T10:20:31Z" }],
    ["from", { from: "2026-03-02T00:00:00Z", to: "2026-03-01T00:00:00Z", by: "day" }],
  ])("names %s when it refuses %j", (field, options) => {
    expect(refusedField(options)).toBe(field);
  });
});

describe("the pieces of a range", () => {
  it("are months where they can be, and days and hours at the edges", () => {
    const pieces = piecesOf({
      by: "hour",
      from: Date.parse("2026-01-30T22:00:00Z"),
      to: Date.parse("2026-03-02T03:00:00Z"),
    });
    expect(
      pieces.map(({ unit, from, to }) => [unit, new Date(from).toISOString(), new Date(to).toISOString()]),
    ).toEqual([
      ["hour", "2026-01-30T22:00:00.000Z", "2026-01-31T00:00:00.000Z"],
      ["day", "2026-01-31T00:00:00.000Z", "2026-02-01T00:00:00.000Z"],
      ["month", "2026-02-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z"],
      ["day", "2026-03-01T00:00:00.000Z", "2026-03-02T00:00:00.000Z"],
      ["hour", "2026-03-02T00:00:00.000Z", "2026-03-02T03:00:00.000Z"],
    ]);
  });

  it("follow one another from its beginning to its end, each aligned, with few periods in all", () => {
    const hours = fc.tuple(fc.integer({ min: 0, max: 400_000 }), fc.integer({ min: 1, max: 732 * 24 }));
    fc.assert(
      fc.property(hours, ([first, count]) => {
        const [from, to] = [first * HOUR_MS, (first + count) * HOUR_MS];
        const pieces = piecesOf({ by: "hour", from, to });
        let [at, periods] = [from, 0];
        for (const piece of pieces) {
          expect(piece.from).toBe(at);
          at = piece.to;
          if (piece.unit === "month") {
            for (const edge of [piece.from, piece.to]) expect(new Date(edge).getUTCDate()).toBe(1);
          }
          if (piece.unit !== "hour") expect([piece.from % DAY_MS, piece.to % DAY_MS]).toEqual([0, 0]);
          const size = { hour: HOUR_MS, day: DAY_MS, month: 28 * DAY_MS }[piece.unit];
          periods += (piece.to - piece.from) / size;
        }
        expect(at).toBe(to);
        expect(periods).toBeLessThanOrEqual(46 + 60 + 28);
      }),
      { numRuns: 500 },
    );
  });
});
