/** The bindings of the benchmark's Worker, as lib/runtime.ts makes them. */
import type { RecorderNamespaceLike } from "../../src/coordinator/record-entry.ts";
import type { CoordinatorNamespaceLike } from "../../src/stores/coordinated/wire.ts";

export interface BenchEnv {
  DB: D1Database;
  RUNS: CoordinatorNamespaceLike;
  /** The same objects, counting what they write. */
  COUNTED_RUNS: CoordinatorNamespaceLike;
  /** The same objects, with recorder objects. */
  GROUPED_RUNS: CoordinatorNamespaceLike;
  RECORDER_OBJECTS: RecorderNamespaceLike;
  /** The same three, counting. */
  COUNTED_GROUPED_RUNS: CoordinatorNamespaceLike;
  COUNTED_RECORDERS: RecorderNamespaceLike;
  COUNTED_SERVICE: object;
  /** RunService of the other Worker. */
  RUNS_SERVICE: object;
  FLOORS: Named<FloorMethods>;
  MARKS: Named<MarksMethods>;
  WORKFLOW: Workflow<WorkflowParams>;
}

export type WorkflowParams =
  | { readonly kind: "steps"; readonly steps: number; readonly bytes: number }
  | { readonly kind: "waiter" }
  | { readonly kind: "prefix"; readonly steps: number };

export interface FloorMethods {
  noop(): Promise<number>;
  write(): Promise<number>;
  writeToD1(): Promise<void>;
  hear(): Promise<void>;
  tell(): Promise<void>;
  writeToD1WithOthers(): Promise<void>;
  writeLast(): Promise<number>;
  gather(id: string): Promise<void>;
  open(): Promise<FloorSession>;
  begin(first: FloorCall): Promise<{ session: FloorSession & Disposable }>;
}

/** What an object does by itself. */
export type FloorCall = Exclude<keyof FloorMethods, "gather" | "open" | "begin" | "hear" | "tell">;

/** What an object hands out: its calls are no requests of their own, and quicker. */
export interface FloorSession {
  call(method: FloorCall): Promise<unknown>;
  gather(id: string): Promise<void>;
}

export interface MarksMethods {
  reach(mark: string): Promise<void>;
  reached(mark: string): Promise<void>;
  forget(mark: string): Promise<void>;
}

/** A namespace of objects that have these methods. */
interface Named<Methods> {
  getByName(name: string): Methods;
}
