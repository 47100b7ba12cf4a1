/**
 * run.json and lease.json: the run as it was at its last claim or end, and who holds it now, for people.
 *
 * Nothing here is ever read back. A view that could not be written, or that a slower process wrote over with an older
 * one, costs nobody a run: the log has it all, and the next claim or end writes the views again.
 */
import { randomUUID } from "node:crypto";
import { closeSync, fsync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { fromJsonText } from "../../contract/payload.ts";
import type { RunState } from "../../ledger/state.ts";
import { toRunRecord } from "../records.ts";
import { isSystemError } from "./errors.ts";

const syncFile = promisify(fsync);

/** After a claim or an end. `input`: the text of the run's input. */
export async function writeViews(
  directory: string,
  run: RunState,
  stepCount: number,
  input: string,
): Promise<void> {
  const { projectId, scenarioId, task, tags, result } = run;
  const view = {
    ...toRunRecord({ run, stepCount }, result !== null && "text" in result ? result.text : null),
    manifest: {
      projectId,
      ...(scenarioId !== null && { scenarioId }),
      task: fromJsonText(task),
      input: fromJsonText(input),
      ...(tags !== null && { tags: fromJsonText(tags) }),
    },
  };
  await bestEffort(async () => {
    removeLeftovers(directory);
    await replaceFile(join(directory, "run.json"), view, { sync: true });
  });
  await writeLeaseView(directory, run);
}

/** Also after a renewal, and never synced: a heartbeat does not wait for the disk. No file: nobody holds the run. */
export async function writeLeaseView(directory: string, run: RunState): Promise<void> {
  const path = join(directory, "lease.json");
  const { runId, leaseHolderId, leaseExpiresAt, fence } = toRunRecord({ run, stepCount: 0 }, null);
  await bestEffort(async () => {
    if (leaseExpiresAt === undefined) rmSync(path, { force: true });
    else await replaceFile(path, { runId, leaseHolderId, leaseExpiresAt, fence }, { sync: false });
  });
}

async function replaceFile(path: string, value: unknown, { sync }: { sync: boolean }): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = openSync(temporary, "wx");
    try {
      writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
      if (sync) await syncFile(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** What a killed process left. A live one may lose its view to this: ours is written until it shows what stands. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (name.endsWith(".tmp")) rmSync(join(directory, name), { force: true });
  }
}

/** What the request asked for is recorded by now. To fail for want of a view would say that it is not. */
async function bestEffort(write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
