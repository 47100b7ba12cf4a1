/** A task on Workflows whose instance is stopped anywhere, and run again: what its code has seen, it sees again. */
import { describe, expect, it } from "vitest";
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableContext } from "../../src/runner/types.ts";
import { workflowEventType } from "../../src/workflows/event-type.ts";
import { runOnWorkflowStep } from "../../src/workflows/run-on-workflow-step.ts";
import { Journal, Lifetime, randomOf } from "./workflow-journal.ts";
import { failureOf, type Task } from "./workflow-step.ts";

/** What the task's code saw, and what is not to be. */
class Witness {
  readonly seen: unknown[][] = [];
  readonly wrongs: string[] = [];
  readonly #over = new Set<string>();

  /** The code has seen what came of a group. */
  see(group: string, outcome: unknown): void {
    this.#over.add(group);
    this.seen.at(-1)?.push([group, outcome]);
  }

  /** The function of a step of that group is called. */
  begin(group: string, intent: string): void {
    if (this.#over.has(group)) this.wrongs.push(`${intent} of ${group} was begun after it was over`);
  }
}

const tasks: Record<string, (witness: Witness, random: () => number) => Task<unknown>> = {
  "a race of steps": (witness, random) => async (ctx) => {
    const outcome = await ctx.race({
      a: (branch) => steps(branch, 2, "race", witness, random),
      b: (branch) => steps(branch, 2, "race", witness, random),
      c: (branch) => steps(branch, 3, "race", witness, random),
    });
    witness.see("race", outcome);
    await ctx.step("after", async () => null);
    return outcome;
  },
  "branches of which some fail": (witness, random) => async (ctx) => {
    const outcome = await ctx
      .all({
        a: (branch) => steps(branch, 3, "all", witness, random),
        b: async (branch) => {
          await steps(branch, 1, "all", witness, random);
          if ((await branch.step("dice", async () => random())) < 0.5) throw new Error("b has failed");
          return "b";
        },
        c: async (branch) => {
          const failure = await failureOf(
            branch.step("c", () => Promise.reject(Object.assign(new Error("c has failed"), { code: "C" }))),
          );
          if ((await branch.step("dice", async () => random())) < 0.3) throw failure;
          return codeOf(failure);
        },
      })
      .catch((error: Error) => error.message);
    witness.see("all", outcome);
    await ctx.step("after", async () => null);
    return outcome;
  },
  "groups in groups": (witness, random) => async (ctx) => {
    const outcome = await ctx.all([
      async (branch) => {
        const inner = await branch.race({
          x: (x) => steps(x, 2, "inner", witness, random),
          y: async (y) => (await y.sleep(20), "late"),
        });
        witness.see("inner", inner);
        return [inner, await steps(branch, 1, "outer", witness, random)];
      },
      (branch) => branch.all([(one) => steps(one, 2, "outer", witness, random)]),
    ]);
    witness.see("outer", outcome);
    return outcome;
  },
  "an event, awaited in turns": (witness) => async (ctx) => {
    const outcomes: unknown[] = [];
    for (let turn = 0; turn < 3; turn += 1) {
      const outcome = await ctx.race({
        event: (branch) => branch.awaitEvent("go"),
        late: async (branch) => (await branch.sleep(15), `late ${turn}`),
      });
      witness.see(`turn ${turn}`, outcome);
      outcomes.push(outcome);
    }
    return [...outcomes, await ctx.awaitEvent("go")];
  },
  "an event that branches await for some time": (witness) => async (ctx) => {
    const wait = async (branch: DurableContext, timeoutMs: number): Promise<unknown> => {
      const failure = await failureOf(branch.awaitEvent("go", { timeoutMs }));
      return [
        codeOf(failure) ?? (await branch.awaitEvent("go")),
        await branch.step("then", async () => timeoutMs),
      ];
    };
    const outcome = await ctx.all([5, 20, 60].map((ms) => (branch: DurableContext) => wait(branch, ms)));
    witness.see("waits", outcome);
    return [outcome, await ctx.awaitEvent("go")];
  },
};

describe.each(Object.entries(tasks))("%s", (_name, task) => {
  it("is the same, whenever the instance is stopped, and in whatever order the platform answers", async () => {
    const outcomes = new Set<string>();
    for (let seed = 1; seed <= 100; seed += 1) {
      const random = randomOf(seed);
      const witness = new Witness();
      const result = await runThrough(task(witness, random), witness, random);
      const last = witness.seen.at(-1) ?? [];
      const agreed = witness.seen.map((seen) => last.slice(0, seen.length));
      expect({ seed, seen: witness.seen, wrongs: witness.wrongs }).toEqual({
        seed,
        seen: agreed,
        wrongs: [],
      });
      outcomes.add(JSON.stringify(result));
    }
    expect(outcomes.size).toBeGreaterThan(1);
  });
});

/** Runs the task until it ends, over some lifetimes; then once more, over the whole record. */
async function runThrough(task: Task<unknown>, witness: Witness, random: () => number): Promise<unknown> {
  const journal = new Journal();
  let eventIn = Math.floor(random() * 60);
  const results: unknown[] = [];
  const deaths = Math.floor(random() * 4);
  for (let life = 0; results.length < 2; life += 1) {
    const lifetime = new Lifetime(journal, random, life < deaths ? 1 + Math.floor(random() * 40) : Infinity);
    witness.seen.push([]);
    const input = { workflowName: "flow", runId: "r", taskFn: task };
    const ended = runOnWorkflowStep(lifetime, input).then((result) => ({ result }));
    const end = Promise.race([ended, lifetime.death.promise]);
    const watch = { isOver: false };
    const stop = (): void => void (watch.isOver = true);
    end.then(stop, stop);
    for (let ticks = 0; !watch.isOver; ticks += 1) {
      if (ticks > 2_000) throw new Error(`no end in sight: ${JSON.stringify(witness.seen)}`);
      if (eventIn-- === 0) journal.send(workflowEventType("go"), "word");
      await lifetime.advance();
    }
    const ending = await end;
    if (ending) results.push(ending.result);
  }
  expect(results[1]).toEqual(results[0]);
  return results[0];
}

async function steps(
  ctx: DurableContext,
  count: number,
  group: string,
  witness: Witness,
  random: () => number,
): Promise<unknown> {
  const values: unknown[] = [];
  for (let i = 0; i < count; i += 1) {
    const intent = `step ${i}`;
    const work = async (): Promise<number> => {
      witness.begin(group, intent);
      for (let i = Math.floor(random() * 40); i > 0; i -= 1) await Promise.resolve();
      return random();
    };
    values.push(await ctx.step(intent, work));
  }
  return values;
}
