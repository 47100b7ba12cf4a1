/**
 * Runs in a directory of one machine. One directory a run, under the root:
 *
 *     steps.jsonl    the log: every claim, renewal, step and end, a line each. The only truth of the run.
 *     events.jsonl   its events, a line each. The first of a key counts.
 *     run.json       the run and its manifest as of its last claim or end, for people
 *     lease.json     who holds the run, for people; absent when nobody does
 *
 * Guarantee: what was acknowledged survives the death of the process and, but for a begin that is told by itself and a renewal, of
 * the machine. Several processes may work on one root, and on one run, at once. The root has to be on a local file system.
 */
import type { BeginOptions } from "../ledger-store.ts";
import { LedgerStore } from "../ledger-store.ts";
import { FileJournal } from "./journal.ts";

export class FileSystemDurableRunStore extends LedgerStore {
  readonly #journal: FileJournal;

  /** `root` is made with the first run. */
  constructor(root: string, options: BeginOptions = {}) {
    const journal = new FileJournal(root);
    super(journal, options);
    this.#journal = journal;
  }

  /** @internal The ids of the runs that have been claimed, in order. */
  _listRunIds(): Promise<string[]> {
    return this.#journal.runIds();
  }
}
