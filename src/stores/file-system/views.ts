/**
 * run.json and lease.json: the run as it was at its last claim or end, and who holds it now, for people.
 *
 * Nothing here is ever read back. A view that could not be written, or that a slower process wrote over with an older
 * one, costs nobody a run: the log has it all, and the next claim or end writes the views again.
 */
import { randomUUID } from "node:crypto";
import { open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fromJsonText } from "../../contract/payload.ts";
import type { RunState } from "../../ledger/state.ts";
import { toRunRecord } from "../records.ts";
import { isSystemError } from "./errors.ts";

/** After a claim or an end. `input`: the text of the run's input. */
export async function writeViews(
  directory: string,
  run: RunState,
  stepCount: number,
  input: string,
): Promise<void> {
  const view = {
    ...toRunRecord({ run, stepCount }, run.result !== null && "text" in run.result ? run.result.text : null),
    manifest: {
      projectId: run.projectId,
      ...(run.scenarioId !== null && { scenarioId: run.scenarioId }),
      task: fromJsonText(run.task),
      input: fromJsonText(input),
      ...(run.tags !== null && { tags: fromJsonText(run.tags) }),
    },
  };
  await bestEffort(() => removeLeftovers(directory));
  await bestEffort(() => replaceFile(join(directory, "run.json"), view, { sync: true }));
  await writeLeaseView(directory, run, { sync: true });
}

/** After a renewal, without syncing: a heartbeat costs no disk. There is no lease.json when nobody holds the run. */
export async function writeLeaseView(
  directory: string,
  run: RunState,
  { sync } = { sync: false },
): Promise<void> {
  const path = join(directory, "lease.json");
  const { runId, fence, takeovers } = run;
  const { leaseHolderId, leaseExpiresAt } = toRunRecord({ run, stepCount: 0 }, null);
  await bestEffort(() =>
    leaseExpiresAt === undefined
      ? rm(path, { force: true })
      : replaceFile(path, { runId, leaseHolderId, leaseExpiresAt, fence, takeovers }, { sync }),
  );
}

async function replaceFile(path: string, value: unknown, { sync }: { sync: boolean }): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(temporary, "wx");
    try {
      await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
      if (sync) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** What a killed process left. A view that a live one is about to rename goes too, and is then not renewed. */
async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.endsWith(".tmp")) await rm(join(directory, name), { force: true });
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
