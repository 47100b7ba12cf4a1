/**
 * Runs a work: all its rows once to warm up, then round by round. Each round begins with another row, and every other
 * one goes backwards, so that no row always comes after the same one.
 */
import type { Row, Work } from "./works.ts";

export interface MeasuredRow {
  readonly subject: string;
  readonly variant: string;
  /** One a round, in the work's unit. */
  readonly samples: readonly number[];
}

export interface MeasuredWork extends Omit<Work, "rows"> {
  readonly rows: readonly MeasuredRow[];
}

export async function measured(
  { rows, ...work }: Work,
  rounds: number,
  progress: (text: string) => void,
): Promise<MeasuredWork> {
  const samples = new Map<Row, number[]>(rows.map((row) => [row, []]));
  for (const row of rows) await named(row, async () => row.prepare?.());
  for (let round = -1; round < rounds; round += 1) {
    progress(`${work.id}, ${round < 0 ? "warm-up" : `round ${round + 1} of ${rounds}`}`);
    for (const row of inTurn(rows, round)) {
      const sample = await named(row, row.measure);
      if (round >= 0) samples.get(row)?.push(sample);
    }
  }
  return {
    ...work,
    rows: rows.map((row) => ({
      subject: row.subject,
      variant: row.variant,
      samples: samples.get(row) ?? [],
    })),
  };
}

/** The order of a round; -1 is the warm-up. */
export function inTurn<T>(list: readonly T[], round: number): T[] {
  const at = round <= 0 ? 0 : round % list.length;
  const rotated = [...list.slice(at), ...list.slice(0, at)];
  return round % 2 === 1 ? rotated.toReversed() : rotated;
}

async function named<T>({ subject, variant }: Row, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new Error(`${subject} ${variant}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
