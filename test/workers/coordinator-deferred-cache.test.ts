/** Deferred commits (0026): how much of a run the cache keeps in memory, over the object's real storage. */
import { runInDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { RunCache } from "../../src/coordinator/cache.ts";
import type { SyncStorage } from "../../src/coordinator/schema.ts";
import type { StepState } from "../../src/ledger/state.ts";
import { newRunId } from "../../src/identity.ts";
import { stubOf } from "./coordinator-world.ts";

const step = (stepIndex: number): StepState => ({
  stepIndex,
  path: String(stepIndex),
  intent: "count",
  kind: "logic",
  inputHash: "",
  status: "completed",
  attempts: 1,
  tries: 1,
  nextAttemptAt: null,
  inDoubt: false,
  result: { text: JSON.stringify("r".repeat(1_000)) },
  error: null,
  caught: [],
  deadlineAt: null,
  startedAt: 1,
  completedAt: 2,
  workerId: "worker-1",
  fence: 1,
  beginRequestId: `begin-${stepIndex}`,
});

it("keeps a thousand or so of 10,000 steps that D1 lacks in memory, and reads the others from storage", async () => {
  const runId = newRunId();
  const found = await runInDurableObject(stubOf(runId), (_object, { storage }) => {
    let reads = 0;
    const counted: SyncStorage = {
      sql: new Proxy(storage.sql, {
        get(sql, name) {
          if (name === "exec") reads += 1;
          const value: unknown = Reflect.get(sql, name);
          return typeof value === "function" ? (value.bind(sql) as unknown) : value;
        },
      }),
      transactionSync: (closure) => storage.transactionSync(closure),
    };
    const cache = new RunCache(counted);
    for (let stepIndex = 0; stepIndex < 10_000; stepIndex += 1) {
      const change = { step: step(stepIndex) };
      if (cache.mayDefer(change)) cache.defer(change, 1);
      else cache.commit(change, 1, { mayTrail: true });
    }
    cache.saveUnsaved();
    reads = 0;
    const present = [...cache.dirty.steps.keys()].filter(
      (stepIndex) => cache.tellableStep(stepIndex) !== null,
    );
    return { present: present.length, reads };
  });
  expect(found.present).toBe(10_000);
  expect(found.reads).toBeGreaterThan(8_500);
});
