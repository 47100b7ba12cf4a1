/**
 * The steps of a run, page by page, as they are on record now.
 *
 * Owns which pages are asked for again: those whose every step has completed stay as they are, until the run is claimed
 * or restarted (another fence), for only then can a completed step be gone.
 */
import type { HistoryStep, StepPage } from "../../../src/history/types.ts";

const STEPS_A_PAGE = 200;

export interface LoadedSteps {
  pages: readonly StepPage[];
  /** Whether there are steps beyond these pages. */
  hasMore: boolean;
}

export class StepPages {
  #pages: StepPage[] = [];
  #fence: number | undefined;

  /** Brings the first `most` pages up to date. */
  async load(
    fence: number | undefined,
    most: number,
    ask: (limit: number, cursor: string | undefined) => Promise<StepPage>,
  ): Promise<LoadedSteps> {
    const known = fence === this.#fence ? this.#pages : [];
    const pages: StepPage[] = [];
    let cursor: string | undefined;
    do {
      const before = known[pages.length];
      const page = before !== undefined && isSettled(before) ? before : await ask(STEPS_A_PAGE, cursor);
      pages.push(page);
      cursor = page.cursor;
    } while (cursor !== undefined && pages.length < most);
    this.#pages = pages;
    this.#fence = fence;
    return { pages, hasMore: cursor !== undefined };
  }
}

/** A last page may grow, and a gap may be filled. */
function isSettled({ steps, cursor }: StepPage): boolean {
  const first = steps[0]?.stepIndex ?? 0;
  const isWhole = (step: HistoryStep, i: number): boolean =>
    step.status === "completed" && step.stepIndex === first + i;
  return cursor !== undefined && steps.every(isWhole);
}
