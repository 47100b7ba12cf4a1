/** Reads the lines of a file piecewise, so that a log of any size is read in little memory. */
import { readSync } from "node:fs";

/** Where a line lies in its file, in bytes, without its newline. */
export interface Place {
  readonly offset: number;
  readonly length: number;
}

const CHUNK_BYTES = 256 * 1_024;
const NEWLINE = 0x0a;

/** The lines between two offsets that a newline ends. `from` is where a line begins. */
export function* readLines(
  file: number,
  from: number,
  to: number,
): Generator<{ text: string; place: Place }> {
  let unfinished: Buffer[] = [];
  let offset = from;
  for (let at = from; at < to;) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, to - at));
    const bytesRead = readSync(file, buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    const chunk = buffer.subarray(0, bytesRead);
    let begin = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, begin)) {
      const rest = chunk.subarray(begin, end);
      const line = unfinished.length === 0 ? rest : Buffer.concat([...unfinished, rest]);
      unfinished = [];
      begin = end + 1;
      yield { text: line.toString("utf8"), place: { offset, length: line.length } };
      offset += line.length + 1;
    }
    if (begin < chunk.length) unfinished.push(chunk.subarray(begin));
  }
}
