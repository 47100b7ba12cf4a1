/**
 * Where a run lives under the root, and what lies there. A run id is never a path: a name that is not plainly safe on
 * every system is hashed.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isMissing, unavailable } from "./errors.ts";
import { parseRunLogLine } from "./lines.ts";
import { readLines } from "./read-lines.ts";

export const STEPS_FILE = "steps.jsonl";
export const EVENTS_FILE = "events.jsonl";

const PLAIN = /^[0-9A-Za-z][0-9A-Za-z._-]{0,119}$/;
/** Names of devices on Windows, whatever follows a dot. A trailing dot is dropped there. */
const UNSAFE_ON_WINDOWS = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)|\.$/i;

/** The id itself, such as a ULID, where that is a safe name; else "~" and its SHA-256 in hex. */
export function directoryName(runId: string): string {
  if (PLAIN.test(runId) && !UNSAFE_ON_WINDOWS.test(runId)) return runId;
  return `~${createHash("sha256").update(runId, "utf8").digest("hex")}`;
}

/** The ids of all runs that have been claimed, in order. */
export async function listRunIds(root: string): Promise<string[]> {
  const runIds: string[] = [];
  try {
    for (const entry of await readdir(root, { withFileTypes: true })) {
      const runId = entry.isDirectory() ? recordedRunId(join(root, entry.name, STEPS_FILE)) : null;
      // A copy under another name is not the run.
      if (runId !== null && directoryName(runId) === entry.name) runIds.push(runId);
    }
  } catch (error) {
    if (!isMissing(error)) throw unavailable(error, root);
  }
  return runIds.sort();
}

/** Of the first line that counts, so that a listing does not read whole logs. */
function recordedRunId(path: string): string | null {
  let file: number | null = null;
  try {
    file = openSync(path, constants.O_RDONLY);
    for (const { text } of readLines(file, 0, fstatSync(file).size)) {
      const line = parseRunLogLine(text);
      if (line?.seq === 1) return "run" in line ? line.run.runId : null;
    }
    return null;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  } finally {
    if (file !== null) closeSync(file);
  }
}
