/** What can befall a run's object. */
import { abortAllDurableObjects, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { letGoOfSessions } from "./coordinator-world.ts";

/** The object is reset: memory is gone, and so is what no commit had reached. */
export async function abort(_runId: string): Promise<void> {
  await abortAllDurableObjects();
}

/**
 * The object is put to sleep in order: memory is gone. Sessions are let go of; a call that a dead worker has left held
 * keeps it awake until it ends.
 */
export async function evict(runId: string): Promise<void> {
  await putToSleep(env.RUNS.getByName(runId), letGoOfSessions);
}

/** Once nothing has a session with it or a call of it: sessions that begin meanwhile are let go of as well. */
export async function putToSleep(
  stub: DurableObjectStub,
  letGo: () => Promise<void> = async () => {},
): Promise<void> {
  const letting = setInterval(() => void letGo(), 20);
  try {
    await letGo();
    for (;;) {
      try {
        return await evictDurableObject(stub);
      } catch (error) {
        if (!String(error).includes("active references")) throw error;
      }
    }
  } finally {
    clearInterval(letting);
  }
}

/** Memory and storage are gone: only D1 is left (R17). */
export async function wipe(runId: string): Promise<void> {
  const wiping = runInDurableObject(env.RUNS.getByName(runId), (_object, state) =>
    // No object lives to see that its storage is gone: no call comes in between.
    state.blockConcurrencyWhile(async () => {
      await state.storage.deleteAll();
      await state.storage.sync();
      state.abort("wiped");
    }),
  );
  await wiping.catch(() => {});
  await abortAllDurableObjects();
}

/** The same, after D1 has followed: what `ack: "coordinator"` promises before that is the object's storage alone. */
export async function wipeOnceRecorded(runId: string): Promise<void> {
  await drained(runId);
  await wipe(runId);
}

/** Resolves once D1 holds all that the object does. */
export async function drained(runId: string): Promise<void> {
  for (;;) {
    const lag = await env.RUNS.getByName(runId).lag();
    if (lag.ok && lag.value.rows === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
