import { expect, it } from "vitest";
import type { DurableRunStore } from "../../src/index.ts";
import { InMemoryDurableRunStore, LIMITS, runDurable } from "../../src/index.ts";
import type { StepMockFunction } from "../../src/testing.ts";
import { FaultyStore, killable, mockSteps, SkippingClock } from "../../src/testing.ts";
import { DAY_MS, offer } from "./agent.ts";

const runId = "run-1";
const manifest = { projectId: "offers", task: { id: "offer", intent: "make an offer" }, input: {} };

function newWorld(draft: string | StepMockFunction = "Dear Ann") {
  const clock = new SkippingClock();
  const store = new FaultyStore(new InMemoryDurableRunStore({ clock }));
  const task = mockSteps(offer("ann"), { draft, price: 100, send: null });
  return {
    clock,
    store,
    task,
    // The longest lease there is: skipped time costs a little work for each heartbeat.
    run: (through: DurableRunStore = store) =>
      runDurable({ runId, manifest, store: through, clock, leaseMs: LIMITS.leaseMs, taskFn: task }),
    approve: (payload = true) => store.emitEvent({ runId, key: "approval", payload }),
  };
}

it("sends an approved offer after a day", async () => {
  const { clock, run, approve, task } = newWorld();
  const startedAt = clock.now();
  await approve();
  expect((await run()).result).toBe("sent");
  expect(clock.now() - startedAt).toBeGreaterThanOrEqual(DAY_MS);
  expect(task.unused()).toEqual([]);
});

it("drafts again when the model is overloaded", async () => {
  const { run, approve, task } = newWorld((_info, call) => {
    if (call < 3) throw new Error("overloaded");
    return "Dear Ann";
  });
  await approve();
  expect((await run()).result).toBe("sent");
  expect(task.calls.draft.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  expect(task.calls.price).toHaveLength(1);
});

it("drops an offer that nobody has approved in a day", async () => {
  const { clock, store, run, task } = newWorld();
  const running = run();
  await expect
    .poll(async () => (await store.loadRun?.(runId))?.waitingFor)
    .toMatchObject([{ for: "event", key: "approval" }]);
  await clock.delay(DAY_MS);
  expect((await running).result).toBe("dropped");
  expect(task.calls.send).toEqual([]);
});

it("sends once, though the store loses the answer to every second completion", async () => {
  const { store, run, approve, task } = newWorld();
  store.fault = ({ method, number }) => (method === "completeStep" && number % 2 === 1 ? "after" : "none");
  await approve();
  expect((await run()).result).toBe("sent");
  expect(store.faults).toBeGreaterThan(0);
  expect(task.calls.send).toHaveLength(1);
});

// A claim; the begins of a step with retries and of two waits, for others come with their ends; the completions of four
// steps; the wait for the event, which completes a fifth; the end.
const CALLS = 10;
const points = Array.from({ length: CALLS }, (_, i) => [
  { call: i + 1, when: "before" as const },
  { call: i + 1, when: "after" as const },
]).flat();

it.each(points)("is sent, though its worker dies $when store call $call", async (point) => {
  const { clock, store, run, approve, task } = newWorld();
  await approve();
  const victim = killable(store, point);
  run(victim.store).catch(() => {}); // it dies, and nobody listens any more
  await victim.died;
  clock.advance(LIMITS.leaseMs + 1); // its lease lapses

  expect((await run()).result).toBe("sent");
  const calls = Object.values(task.calls).flat();
  for (const position of victim.acknowledged) {
    const made = calls.filter(({ stepIndex }) => stepIndex === position).length;
    expect(made, `step ${position} was recorded`).toBeLessThanOrEqual(1);
  }
  expect(new Set(task.calls.send.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
});

it("makes as many store calls as there are points to die at", async () => {
  const { store, run, approve } = newWorld();
  await approve();
  const counting = killable(store);
  await run(counting.store);
  expect(counting.calls).toBe(CALLS);
});
