/** Medians, their ranges, and ratios. Pure. */

export interface Figure {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Throws when there are no samples. */
export function figureOf(samples: readonly number[]): Figure {
  const sorted = samples.toSorted((a, b) => a - b);
  const [min] = sorted;
  const max = sorted.at(-1);
  if (min === undefined || max === undefined) throw new Error("nothing was measured");
  return { median: medianOf(sorted), min, max };
}

/** The median of a sorted list. */
export function medianOf(sorted: readonly number[]): number {
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/**
 * Of what was measured in the same round: the load of a machine changes from round to round, and a ratio within one
 * feels it least. Where nothing is left below the line, as a difference within the noise may leave it, the ratio has no
 * bound: infinite.
 */
export function ratioOf(above: readonly number[], below: readonly number[]): Figure {
  return figureOf(
    above.map((value, round) => {
      const divisor = below[round] ?? 0;
      return divisor > 0 ? value / divisor : Infinity;
    }),
  );
}

export function sumOf(...lists: readonly (readonly number[])[]): number[] {
  return (lists[0] ?? []).map((_value, round) =>
    lists.reduce((sum, list) => sum + (list[round] ?? Number.NaN), 0),
  );
}

export function differenceOf(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, round) => value - (b[round] ?? Number.NaN));
}

/** Three digits that count, and no more than three after the point. */
export function shown(value: number): string {
  if (value === Infinity) return "∞";
  if (Number.isNaN(value)) return "–";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return value.toFixed(digits);
}

export function shownFigure({ median, min, max }: Figure): string {
  return `**${shown(median)}** (${shown(min)}–${shown(max)})`;
}
