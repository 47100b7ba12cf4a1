import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { runDurable } from "../../src/runner/run-durable.ts";
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { MANIFEST } from "../support/world.ts";

test("a wait that is answered leaves no listener on the signal that its store was given", async () => {
  const signals: AbortSignal[] = [];
  class Store extends InMemoryDurableRunStore {
    override waitForEvent(input: Parameters<InMemoryDurableRunStore["waitForEvent"]>[0]) {
      signals.push(input.signal!);
      return super.waitForEvent(input);
    }
  }
  const store = new Store();
  const run = runDurable({ runId: "r", manifest: MANIFEST, store, taskFn: (ctx) => ctx.awaitEvent("k") });
  await expect.poll(() => signals.length).toBe(1);
  await store.emitEvent({ runId: "r", key: "k", payload: 1 });
  await run;
  // Node keeps a composite signal that is listened to, whatever it reaches, for as long as it may abort.
  expect(getEventListeners(signals[0]!, "abort")).toHaveLength(0);
});
