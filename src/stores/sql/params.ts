/**
 * Rows as parameters: JSON arrays of rows, each small enough for one value of D1 or of an object's SQLite.
 */
import { byteLength } from "../../contract/limits.ts";
import type { Cell } from "./rows.ts";

/** Half of what D1 takes in one value; a single row of a step or an event stays below it, however much it is escaped. */
export const PARAM_BYTES = 1_000_000;

/** The items in order, in as many texts as their rows take. */
export function* inParams<T>(
  items: Iterable<T>,
  toRow: (item: T) => readonly Cell[],
): Generator<{ readonly json: string; readonly items: readonly T[] }> {
  let taken: T[] = [];
  let texts: string[] = [];
  let bytes = 0;
  for (const item of items) {
    const text = JSON.stringify(toRow(item));
    const size = byteLength(text) + 1;
    if (bytes + size > PARAM_BYTES && texts.length > 0) {
      yield { json: `[${texts.join(",")}]`, items: taken };
      taken = [];
      texts = [];
      bytes = 0;
    }
    taken.push(item);
    texts.push(text);
    bytes += size;
  }
  if (texts.length > 0) yield { json: `[${texts.join(",")}]`, items: taken };
}
