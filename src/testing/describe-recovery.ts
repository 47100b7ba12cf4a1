/**
 * The recovery suite: what a store that outlives its process must survive under `runDurable`, as tests.
 *
 * A five-step run with an event is killed before and after every store call, with every disaster that the store knows
 * of; and a worker is paused beyond its lease while another finishes the run. Some of the steps begin before their store
 * is told, where it allows that.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { codeOf } from "../contract/errors.ts";
import type { DurableRunStore } from "../contract/types.ts";
import { newRunId } from "../identity.ts";
import { runDurable } from "../runner/run-durable.ts";
import type { DurableContext, RunDurableResult } from "../runner/types.ts";
import type { StoreHarness, SuiteOptions } from "./harness.ts";
import { MANIFEST } from "./harness.ts";
import { inFrontOf } from "./in-front-of.ts";
import type { KillPoint } from "./kill-points.ts";
import { killable } from "./kill-points.ts";

const LEASE_MS = 30_000;

/** Claim, five times begin and complete, the event's look-up, the end. */
const CALLS = 13;

/** Of these, the begins that come with the end of their step, over a store that takes them so. */
const LATE_BEGINS = 2;

/** How long a step may take before its store is told of it here: whether it is must not depend on the machine. */
const BEGIN_AFTER_MS = 60_000;

/** The limit of retries counts attempts that kill workers, so that such a step is told of first. */
const TOLD_FIRST = { retries: { limit: 3 } };

interface Effects {
  readonly of: number[];
}

const OUTPUT = { words: 3, approvedBy: "ann", summary: "3 words, approved by ann", published: true };

function task(effects: Effects): (ctx: DurableContext) => Promise<typeof OUTPUT> {
  return async (ctx) => {
    const page = await ctx.step("fetch", async () => (effects.of.push(0), { text: "a b c" }), {
      kind: "tool",
      ...TOLD_FIRST,
    });
    const words = await ctx.step("count", async () => (effects.of.push(1), page.text.split(" ").length));
    const approval = await ctx.awaitEvent<{ by: string }>("approve");
    const summary = await ctx.step("summarise", async () => {
      effects.of.push(3);
      return `${words} words, approved by ${approval.by}`;
    });
    const published = await ctx.step("publish", async () => (effects.of.push(4), true), {
      kind: "tool",
      ...TOLD_FIRST,
    });
    return { words, approvedBy: approval.by, summary, published };
  };
}

export function describeRecovery(name: string, { newStore, skip = {} }: SuiteOptions): void {
  describe(`${name} recovers`, () => {
    let harness: StoreHarness;
    let reopen: () => DurableRunStore;

    beforeAll(async () => {
      harness = await newStore();
      if (!harness.reopen)
        throw new Error(`${name} cannot outlive its process: leave the recovery suite out`);
      reopen = harness.reopen;
    });

    /** Where the store can tell of the event, the step that waits for it is completed along with it. */
    const callsOfARun = (): number => {
      const { store } = harness;
      return CALLS - (store.beginAfterMs ? LATE_BEGINS : 0) - (store.waitForEvent === undefined ? 0 : 1);
    };

    const run = (store: DurableRunStore, runId: string, workerId: string, effects: Effects) =>
      runDurable({
        runId,
        store: unhurried(store),
        workerId,
        leaseMs: LEASE_MS,
        manifest: MANIFEST,
        taskFn: task(effects),
      });

    /** As worker-2, once whoever held the lease is given up on. */
    const resume = async (runId: string, effects: Effects): Promise<RunDurableResult<typeof OUTPUT>> => {
      harness.clock.advance(LEASE_MS + 1);
      const store = reopen();
      try {
        return await run(store, runId, "worker-2", effects);
      } catch (error) {
        // A store that rebuilt itself gives the holder one more lease.
        if (codeOf(error) !== "lease_held") throw error;
        harness.clock.advance(LEASE_MS + 1);
        return run(store, runId, "worker-2", effects);
      } finally {
        await store.close();
      }
    };

    const killedRun = async (point: KillPoint, disaster: string | undefined): Promise<void> => {
      const runId = newRunId();
      const effects: Effects = { of: [] };
      await harness.store.emitEvent({ runId, key: "approve", payload: { by: "ann" } });
      const victim = killable(reopen(), point);
      // The dead worker's promise settles, if at all, once its own clock gives its lease up: nobody listens.
      run(victim.store, runId, "worker-1", effects).catch(() => {});
      await victim.died;
      if (disaster !== undefined) await harness.disasters?.[disaster]?.(runId);

      const { result, record, steps } = await resume(runId, effects);

      expect(result).toEqual(OUTPUT);
      expect(record).toMatchObject({ status: "completed", result: OUTPUT, stepCount: 5 });
      expect(steps.map((step) => [step.intent, step.status])).toEqual(
        ["fetch", "count", "event:approve", "summarise", "publish"].map((intent) => [intent, "completed"]),
      );
      for (const position of victim.acknowledged) {
        const ran = effects.of.filter((one) => one === position).length;
        expect(ran, `step ${position} was acknowledged, and must not run again`).toBe(position === 2 ? 0 : 1);
      }
    };

    it("is asked so often in a run without accidents, so that the matrix misses none", async () => {
      const runId = newRunId();
      await harness.store.emitEvent({ runId, key: "approve", payload: { by: "ann" } });
      const counted = killable(reopen());
      await run(counted.store, runId, "worker-1", { of: [] });
      expect(counted.calls).toBe(callsOfARun());
    });

    const points = Array.from({ length: CALLS }, (_, i): KillPoint[] => [
      { call: i + 1, when: "before" },
      { call: i + 1, when: "after" },
    ]).flat();

    it.for(points)(
      "a run whose worker dies $when store call $call",
      { timeout: 60_000 },
      async (point, context) => {
        if (point.call > callsOfARun()) context.skip(`the store is asked only ${callsOfARun()} times`);
        await killedRun(point, undefined);
      },
    );

    for (const disaster of ["aborted", "evicted", "wiped"]) {
      const title = `a run whose worker dies as its object is ${disaster}, at every store call`;
      const reason = skip[title] ?? skip[disaster];
      const test = reason === undefined ? it : it.skip;
      test(
        reason === undefined ? title : `${title} (${reason})`,
        async () => {
          expect(Object.keys(harness.disasters ?? {})).toContain(disaster);
          for (const point of points) {
            if (point.call <= callsOfARun()) await killedRun(point, disaster);
          }
        },
        300_000,
      );
    }

    it.each([
      ["whose step was told of", TOLD_FIRST],
      ["whose step brings its begin", {}],
    ])(
      "from a zombie %s: paused beyond its lease, it is refused at every late call, and changes nothing",
      async (_which, opts) => {
        const runId = newRunId();
        const effects: Effects = { of: [] };
        await harness.store.emitEvent({ runId, key: "approve", payload: { by: "ann" } });
        let release = (): void => {};
        const paused = new Promise<void>((resolve) => (release = resolve));
        let pausedInFn = (): void => {};
        const inFn = new Promise<void>((resolve) => (pausedInFn = resolve));
        const calls: string[] = [];
        const watched = watch(reopen(), calls);
        const late: string[] = [];
        const zombie = runDurable({
          runId,
          store: unhurried(watched),
          workerId: "worker-1",
          leaseMs: LEASE_MS,
          manifest: MANIFEST,
          taskFn: async (ctx) => {
            await ctx.step("fetch", async () => ({ text: "a b c" }), { kind: "tool" });
            // Its own clock stands still, as in a paused process: only the store can tell it that it is late.
            await ctx
              .step("count", async () => (pausedInFn(), await paused, "late"), opts)
              .catch((error: unknown) => {
                late.push(codeOf(error) ?? String(error));
              });
            for (const call of [
              () => ctx.step("summarise", async () => "late"),
              () => ctx.awaitEvent("approve"),
              () => ctx.emitEvent("late", true),
              () => ctx.now(),
            ]) {
              await call().catch((error: unknown) => late.push(codeOf(error) ?? String(error)));
            }
          },
        }).then(
          () => "accepted",
          (error: unknown) => codeOf(error) ?? String(error),
        );
        await inFn;
        const { result } = await resume(runId, effects);
        const before = await everything(harness.store, runId);
        calls.length = 0;
        release();
        expect(await zombie).toBe("lease_lost");
        // The completion was offered, and refused; after that nothing is even tried.
        expect(calls).toEqual(["completeStep: lease_lost"]);
        expect(await everything(harness.store, runId)).toEqual(before);
        expect(await harness.store.loadEvent(runId, "late")).toBeUndefined();
        expect(result).toEqual(OUTPUT);
        expect(new Set(late)).toEqual(new Set(["lease_lost"]));
      },
    );
  });
}

async function everything(store: DurableRunStore, runId: string): Promise<unknown[]> {
  const steps = await Promise.all([0, 1, 2, 3, 4, 5].map((stepIndex) => store.loadStep(runId, stepIndex)));
  return [await store.loadRun?.(runId), ...steps];
}

/** The store, told in passing of no step: a paused or dead process tells nothing, and the others here are quick. */
function unhurried(inner: DurableRunStore): DurableRunStore {
  if (!inner.beginAfterMs) return inner;
  const store = inFrontOf(inner, (_method, _args, call) => call());
  return new Proxy(store, {
    get: (target, property) =>
      property === "beginAfterMs" ? BEGIN_AFTER_MS : (Reflect.get(target, property) as unknown),
  });
}

/**
 * Notes each call, heartbeats aside, with what it was refused. The watch over the lease hears nothing: it would be paused
 * with the rest of the process.
 */
function watch(inner: DurableRunStore, calls: string[]): DurableRunStore {
  return inFrontOf(inner, async (method, _args, call) => {
    if (method === "watchLease") return new Promise<never>(() => {});
    if (method === "renewLease") return call();
    try {
      const answer = await call();
      calls.push(`${method}: accepted`);
      return answer;
    } catch (error) {
      calls.push(`${method}: ${codeOf(error) ?? String(error)}`);
      throw error;
    }
  });
}
