/**
 * Hours, days and months in UTC: the range that statistics are asked for, its entries, and the fewest periods that make
 * it up. Pure arithmetic; knows no table.
 */
import { DurableInvalidInputError } from "../contract/errors.ts";
import { checkOneOf } from "../contract/limits.ts";
import { instantOf } from "./instants.ts";
import type { StatsOptions } from "./types.ts";

export type Unit = "hour" | "day" | "month";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const UNIT_MS = { hour: HOUR_MS, day: DAY_MS };

/** So many entries, one more where the range begins within the first and ends within the last. */
const MAX_ENTRIES = { hour: 31 * 24, day: 2 * 366 };
const DEFAULT_ENTRIES = { hour: 24, day: 30 };
const LONGEST = { hour: "31 days by the hour", day: "2 years by the day" };

/** Epoch milliseconds, whole hours or days. `to` is exclusive. */
export interface Range {
  readonly by: "hour" | "day";
  readonly from: number;
  readonly to: number;
}

/** Periods of one unit that follow one another: `from` begins the first, `to` the one after the last. */
export interface Piece {
  readonly unit: Unit;
  readonly from: number;
  readonly to: number;
}

/** When the period of an instant began, as SQL: both arguments are SQL, too. */
export function beganInSql(unit: string, instant: string): string {
  return `CASE ${unit} WHEN 'hour' THEN ${instant} - ${instant} % ${HOUR_MS}
    WHEN 'day' THEN ${instant} - ${instant} % ${DAY_MS}
    ELSE 1000 * unixepoch(${instant} / 1000, 'unixepoch', 'start of month') END`;
}

/** Throws `invalid_input` that names "by", "from" or "to". */
export function rangeOf({ by = "hour", from, to }: StatsOptions, now: number): Range {
  checkOneOf("by", by, ["hour", "day"]);
  const size = UNIT_MS[by];
  const until = to === undefined ? now : instantOf("to", to);
  const end = Math.ceil(until / size) * size;
  const since = from === undefined ? end - DEFAULT_ENTRIES[by] * size : instantOf("from", from);
  if (since >= until) {
    throw new DurableInvalidInputError("from", `must be before ${to === undefined ? "now" : "to"}`);
  }
  const start = Math.floor(since / size) * size;
  if ((end - start) / size > MAX_ENTRIES[by] + 1) {
    throw new DurableInvalidInputError("from", `is too early: a range is at most ${LONGEST[by]}`);
  }
  return { by, from: start, to: end };
}

/** When each hour or day of the range began. */
export function* entriesOf({ by, from, to }: Range): Generator<number> {
  for (let at = from; at < to; at += UNIT_MS[by]) yield at;
}

/** The range in months where it can be, in days and hours where it must. At most five pieces, in order. */
export function piecesOf({ from, to }: Range): Piece[] {
  const days = [ceil("day", from), floor("day", to)] as const;
  if (days[0] >= days[1]) return pieces(["hour", from, to]);
  const months = [ceil("month", days[0]), floor("month", days[1])] as const;
  const whole: readonly Part[] =
    months[0] >= months[1]
      ? [["day", ...days]]
      : [
          ["day", days[0], months[0]],
          ["month", ...months],
          ["day", months[1], days[1]],
        ];
  return pieces(["hour", from, days[0]], ...whole, ["hour", days[1], to]);
}

type Part = readonly [unit: Unit, from: number, to: number];

function pieces(...parts: readonly Part[]): Piece[] {
  return parts.filter(([, from, to]) => from < to).map(([unit, from, to]) => ({ unit, from, to }));
}

function floor(unit: "day" | "month", instant: number): number {
  if (unit === "day") return Math.floor(instant / DAY_MS) * DAY_MS;
  const date = new Date(instant);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
}

function ceil(unit: "day" | "month", instant: number): number {
  const began = floor(unit, instant);
  if (began === instant) return instant;
  if (unit === "day") return began + DAY_MS;
  const date = new Date(began);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
}
