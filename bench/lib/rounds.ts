/** Runs a work: all its rows once to warm up, then round by round, each round beginning with another row. */
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
    for (const row of rotated(rows, round)) {
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

function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by <= 0 ? 0 : by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
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
