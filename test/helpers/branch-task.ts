/**
 * A random tree of branches as a task for `runDurable`, which notes all that its steps do, and what is wrong with it.
 *
 * Each step returns what its line of code had seen by then. So a replay in which the code sees anything else than it saw
 * when it went on is found out at the next recorded step.
 */
import type { Clock } from "../../src/contract/clock.ts";
import type { DurableContext, StepInfo, StepOptions } from "../../src/runner/types.ts";
import { RERUN } from "../../src/runner/types.ts";
import type { Node } from "./branch-trees.ts";

type Step = Extract<Node, { kind: "step" | "fails" | "flaky" | "fragile" }>;

/** A line of the task's code, numbered as the engine is to number it. */
interface Line {
  readonly ctx: DurableContext;
  readonly prefix: string;
  readonly seen: unknown[];
  /** Races that the code has gone on from, but has not been answered a step since. */
  readonly won: string[];
  next: number;
}

export class BranchTask {
  readonly #tree: readonly Node[];
  /** Takes a random time, of some milliseconds at most. */
  readonly pause: (mostMs: number) => Promise<void>;
  /** Whether the result of the step at a position was acknowledged to a worker. */
  isAcknowledged: (stepIndex: number) => boolean = () => false;
  readonly wrong: string[] = [];
  /** The nodes that were called at each path. */
  readonly paths = new Map<string, Set<string>>();
  /** How often each node's function was called. */
  readonly #calls = new Map<string, number>();
  /** Races whose outcome the code has gone on from: the paths of their branches begin so. */
  readonly #decided = new Set<string>();
  readonly #keys = new Map<string, string>();
  /** Whether a step may be parked. */
  readonly #parks: boolean;
  /** Whether a step may fail once and succeed later, so that what the task comes by after it lies elsewhere. */
  readonly #wavers: boolean;

  constructor(tree: readonly Node[], clock: Clock, random: () => number) {
    this.#tree = tree;
    this.pause = async (mostMs) => {
      const ms = Math.floor(random() * (mostMs + 1));
      if (ms > 0) await clock.sleep(ms);
    };
    const text = JSON.stringify(tree);
    this.#parks = text.includes('"park"');
    this.#wavers = text.includes('"flaky"') || text.includes('"fragile"');
  }

  /** For `runDurable`. */
  readonly run = (ctx: DurableContext): Promise<unknown> =>
    this.#play({ ctx, prefix: "", seen: [], won: [], next: 0 }, this.#tree);

  /** The run begins anew, or from an earlier step: the task may take another way, with other steps at its places. */
  startAnew(): void {
    this.#keys.clear();
    this.#decided.clear();
  }

  async #play(line: Line, nodes: readonly Node[]): Promise<unknown[]> {
    const outputs: unknown[] = [];
    for (const node of nodes) outputs.push(await this.#node(line, node));
    return outputs;
  }

  async #node(line: Line, node: Node): Promise<unknown> {
    const { ctx, seen } = line;
    const note = <T>(value: T): T => (seen.push(value), value);
    switch (node.kind) {
      case "sleep":
        line.next += 1;
        return note((await ctx.sleep(node.ms)) ?? null);
      case "uuid":
      case "now":
        line.next += 1;
        note(String(await ctx[node.kind]()));
        return node.id;
      case "event":
        line.next += 1;
        return note(await ctx.awaitEvent(node.id, { pollMs: 5 }));
      case "emit": {
        const { accepted } = await ctx.emitEvent(`emitted ${node.id}`, node.id);
        if (!note(accepted) && !this.#wavers) this.wrong.push(`the event of ${node.id} was not accepted`);
        return node.id;
      }
      case "try":
        try {
          return note({ returned: await this.#play(line, node.body) });
        } catch (error) {
          return note({ caught: error instanceof Error ? error.message : String(error) });
        }
      case "all":
        return note(await this.#all(line, node.branches));
      case "race":
        return note(await this.#race(line, node.branches));
      default:
        return note(await this.#step(line, node));
    }
  }

  async #all(line: Line, branches: Extract<Node, { kind: "all" }>["branches"]): Promise<unknown[]> {
    const inside = this.#branches(line);
    const works = branches.map((nodes, i) => [`b${i}`, inside(`b${i}`, nodes)] as const);
    if (works.length % 2 === 0) return line.ctx.all(works);
    return Object.values(await line.ctx.all(Object.fromEntries(works)));
  }

  async #race(line: Line, branches: Extract<Node, { kind: "race" }>["branches"]): Promise<unknown> {
    const below = `${line.prefix}${line.next}/`;
    const stepMayBeEndless = line.prefix === "" && !this.#parks;
    const inside = this.#branches(line);
    const works = branches.map(({ nodes, endless }, winner) => async (ctx: DurableContext) => {
      const returned = await inside(String(winner), nodes)(ctx);
      if (endless) await endlessly(ctx, winner + nodes.length, stepMayBeEndless);
      return { winner, returned };
    });
    const output = await line.ctx.race(works);
    line.won.push(below);
    return output;
  }

  /** The branches of the group that comes next on the line: what they have seen, and how they are numbered. */
  #branches(
    line: Line,
  ): (name: string, nodes: readonly Node[]) => (ctx: DurableContext) => Promise<unknown[]> {
    const group = `${line.prefix}${line.next++}`;
    const seen = [...line.seen];
    return (name, nodes) => (ctx) =>
      this.#play({ ctx, prefix: `${group}/${name}/`, seen: [...seen, name], won: [], next: 0 }, nodes);
  }

  async #step(line: Line, node: Step): Promise<string> {
    const { id, intent } = node;
    const path = `${line.prefix}${line.next++}`;
    this.paths.set(path, (this.paths.get(path) ?? new Set()).add(id));
    const saw = JSON.stringify(line.seen);
    const work = async (info: StepInfo): Promise<{ id: string; saw: string }> => {
      await this.#work(node, path, info);
      return { id, saw };
    };
    const value = await line.ctx.step(intent, work, optionsOf(node));
    for (const below of line.won.splice(0)) this.#decided.add(below);
    if (value.id !== id) this.wrong.push(`${id} at ${path} was answered with the result of ${value.id}`);
    if (value.saw !== saw)
      this.wrong.push(`${id} at ${path} ran after ${value.saw}, and replays after ${saw}`);
    return id;
  }

  async #work(node: Step, path: string, { stepIndex, idempotencyKey }: StepInfo): Promise<void> {
    const { id, kind } = node;
    const calls = (this.#calls.get(id) ?? 0) + 1;
    this.#calls.set(id, calls);
    if (this.isAcknowledged(stepIndex)) {
      this.wrong.push(`${id} ran again as step ${stepIndex}, whose result was acknowledged`);
    }
    if ([...this.#decided].some((below) => path.startsWith(below))) {
      this.wrong.push(`${id} at ${path} ran after the race that it is in was decided`);
    }
    const isTaken = [...this.#keys].some(([other, key]) => key === idempotencyKey && other !== id);
    const known = this.#keys.get(id) ?? idempotencyKey;
    if (isTaken || known !== idempotencyKey)
      this.wrong.push(`the key of ${id} is not its own, or has changed`);
    this.#keys.set(id, idempotencyKey);
    await this.pause(8);
    const isDue = kind === "fails" || (kind === "flaky" && calls === 1);
    if (isDue || (kind === "step" && calls <= node.failures)) throw new Error(`${kind} ${id}`);
  }
}

function optionsOf(node: Step): StepOptions {
  if (node.kind === "fragile") return { onInterrupted: "fail" };
  if (node.kind !== "step") return {};
  const retries = node.failures > 0 ? { retries: () => 3 } : {};
  const onInterrupted = node.policy === "reconcile" ? { reconcile: async () => RERUN } : node.policy;
  return { ...retries, onInterrupted };
}

/**
 * In one of the ways in which code may never come back. A step may do so only where nothing but the race itself stops
 * it: else it is waited for.
 */
function endlessly(ctx: DurableContext, way: number, stepMay: boolean): Promise<unknown> {
  if (way % 4 === 0 && stepMay) return ctx.step("endless", () => new Promise(() => {}));
  if (way % 4 === 1) return ctx.awaitEvent("never", { pollMs: 1_000_000 });
  return way % 4 === 2 ? ctx.sleep(100_000_000) : new Promise(() => {});
}
