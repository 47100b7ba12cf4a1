/**
 * Random tasks with branches: what they are, what they come to whatever the timing and the accidents, and how to draw
 * them. A model that knows nothing of how the engine works.
 */
import fc from "fast-check";

export interface Named {
  /** No other node of the tree has it. */
  readonly id: string;
  /** Few, so that steps of different branches look alike. */
  readonly intent: string;
}

export type Node = NodeOf<Named>;

type NodeOf<Name> = Name &
  (
    | {
        readonly kind: "step";
        /** How often its function fails before it succeeds; it is attempted again each time. */
        readonly failures: number;
        readonly policy: "rerun" | "park" | "reconcile";
      }
    /**
     * "fails": whenever it is run. "flaky": the first time that it is run, and is not attempted again unless the run is.
     * "fragile": if a worker dies in it, or it is dropped from a race whose outcome is then not gone on from, and then for
     * good.
     */
    | { readonly kind: "fails" | "flaky" | "fragile" }
    | { readonly kind: "sleep"; readonly ms: number }
    | { readonly kind: "uuid" | "now" | "emit" | "event" }
    | { readonly kind: "try"; readonly body: readonly NodeOf<Name>[] }
    | { readonly kind: "all"; readonly branches: readonly (readonly NodeOf<Name>[])[] }
    | { readonly kind: "race"; readonly branches: readonly ContenderOf<Name>[] }
  );

interface ContenderOf<Name> {
  readonly nodes: readonly NodeOf<Name>[];
  /** It never ends, after its last node. */
  readonly endless: boolean;
}

/** A node without its name. */
type Drawn = NodeOf<unknown>;

/** Whether a line of nodes may return these outputs. */
export function mayReturn(nodes: readonly Node[], outputs: unknown): boolean {
  if (!Array.isArray(outputs) || outputs.length !== nodes.length) return false;
  return nodes.every((node, i) => mayGive(node, outputs[i]));
}

function mayGive(node: Node, output: unknown): boolean {
  switch (node.kind) {
    case "fails":
      return false;
    case "sleep":
      return output === null;
    case "try": {
      const { returned, caught } = output as { returned?: unknown; caught?: string };
      return caught === undefined ? mayReturn(node.body, returned) : mayThrow(node.body, caught);
    }
    case "all":
      if (!Array.isArray(output) || output.length !== node.branches.length) return false;
      return node.branches.every((branch, i) => mayReturn(branch, output[i]));
    case "race": {
      const { winner, returned } = output as { winner: number; returned: unknown };
      const contender = node.branches[winner];
      return contender !== undefined && !contender.endless && mayReturn(contender.nodes, returned);
    }
    default:
      return output === node.id;
  }
}

/** Whether a line of nodes may throw this. */
export function mayThrow(nodes: readonly Node[], message: string): boolean {
  return nodes.some((node) => {
    switch (node.kind) {
      case "fails":
      case "flaky":
        return message === `${node.kind} ${node.id}`;
      case "fragile":
        return message.includes("was interrupted") || message === "another branch of ctx.race came first";
      case "all":
        return node.branches.some((branch) => mayThrow(branch, message));
      case "race":
        return node.branches.some((branch) => mayThrow(branch.nodes, message));
      default:
        return false;
    }
  });
}

const INTENTS = ["ask", "ask", "check"];
const MOST_NODES = 30;

/** `caught`: whether what fails for good is caught further up: a task that always fails never ends. */
function line(depth: number, caught: boolean): fc.Arbitrary<Drawn[]> {
  return fc.array(node(depth, caught), { minLength: depth < 4 ? 0 : 1, maxLength: 4, size: "max" });
}

function node(depth: number, caught: boolean): fc.Arbitrary<Drawn> {
  const policy = fc.constantFrom("rerun", "rerun", "park", "reconcile");
  const leaves: fc.WeightedArbitrary<Drawn>[] = [
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("step"), failures: fc.constant(0), policy }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("step"), failures: fc.integer({ min: 1, max: 3 }), policy }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: "flaky" }) },
    // Alone: what the code goes on from is the failure, until the step runs again, and succeeds.
    { weight: 2, arbitrary: fc.constant({ kind: "try", body: [{ kind: "flaky" }] }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("sleep"), ms: fc.integer({ min: 0, max: 40 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("uuid", "now", "emit", "event") }) },
  ];
  if (caught) {
    leaves.push({ weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("fails", "fragile", "flaky") }) });
  }
  if (depth === 0) return fc.oneof(...leaves);
  const contenders = fc.tuple(
    line(depth - 1, caught),
    fc.array(fc.record({ nodes: line(depth - 1, caught), endless: fc.boolean() }), { maxLength: 2 }),
    fc.boolean(),
  );
  return fc.oneof(
    ...leaves,
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("try"), body: line(depth - 1, true) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("all"),
        branches: fc.array(line(depth - 1, caught), { maxLength: 3 }),
      }),
    },
    {
      weight: 3,
      arbitrary: contenders.map(([nodes, others, first]) => {
        const winner = { nodes, endless: false };
        return { kind: "race", branches: first ? [winner, ...others] : [...others, winner] };
      }),
    },
  ) as fc.Arbitrary<Drawn>;
}

/** A task: a line whose nodes are named, in order, and of which there are not too many; a step is its last. */
export const tree: fc.Arbitrary<readonly Node[]> = line(4, false).map((drawn) => {
  let count = 0;
  const named = (nodes: readonly Drawn[]): Node[] =>
    nodes.flatMap((one): Node[] => {
      if (count >= MOST_NODES) return [];
      count += 1;
      const name = { id: `n${count}`, intent: INTENTS[count % INTENTS.length] as string };
      switch (one.kind) {
        case "try":
          return [{ ...one, ...name, body: named(one.body) }];
        case "all":
          return [{ ...one, ...name, branches: one.branches.map(named) }];
        case "race":
          return [{ ...one, ...name, branches: one.branches.map((b) => ({ ...b, nodes: named(b.nodes) })) }];
        default:
          return [{ ...one, ...name }];
      }
    });
  return [...named(drawn), { kind: "step", failures: 0, policy: "rerun", id: "last", intent: "ask" }];
});

const kill = fc.record({ call: fc.integer({ min: 1, max: 60 }), when: fc.constantFrom("before", "after") });

/** What happens to a play, besides the task itself. */
export const accidents = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  kills: fc.array(kill, { maxLength: 4 }),
  afterwards: fc.record({
    what: fc.constantFrom("nothing", "restart", "fork"),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
});
