/**
 * Both directions of compatibility with the plain declaration, held by the compiler: what these tests claim fails
 * `npm run types`, and at run time only that the names are there.
 */
import { describe, expect, expectTypeOf, test } from "vitest";
import * as ours from "../src/index.ts";
import type { CoordinatedDurableRunStore } from "../src/stores/coordinated/store.ts";
import type { FileSystemDurableRunStore } from "../src/stores/file-system/store.ts";
import type * as plain from "./support/plain-declarations.ts";

/** Compiles only when every value of `From` is one of `To`. */
function fits<From extends To, To>(_proof?: (from: From) => To): void {}

describe("a store", () => {
  test("that is plain is one of ours", () => {
    expectTypeOf<plain.DurableRunStore>().toExtend<ours.DurableRunStore>();
    fits<plain.DurableRunStore, ours.DurableRunStore>((store) => store);
  });

  test("of ours is a plain one", () => {
    expectTypeOf<ours.InMemoryDurableRunStore>().toExtend<plain.DurableRunStore>();
    expectTypeOf<ours.D1DurableRunStore>().toExtend<plain.DurableRunStore>();
    expectTypeOf<FileSystemDurableRunStore>().toExtend<plain.DurableRunStore>();
    expectTypeOf<CoordinatedDurableRunStore>().toExtend<plain.DurableRunStore>();
    fits<ours.DurableRunStore, plain.DurableRunStore>((store) => store);
  });

  // Methods are compared loosely, so that a store might ask for more; their arguments by themselves are not.
  test("of ours needs no more than a plain caller gives", () => {
    type Given<M extends keyof plain.DurableRunStore> = Parameters<plain.DurableRunStore[M]>[0];
    expectTypeOf<Given<"startOrResume">>().toExtend<ours.StartOrResumeInput>();
    expectTypeOf<Given<"renewLease">>().toExtend<ours.RenewLeaseInput>();
    expectTypeOf<Given<"beginStep">>().toExtend<ours.BeginStepInput>();
    expectTypeOf<Given<"completeStep">>().toExtend<ours.CompleteStepInput>();
    expectTypeOf<Given<"failStep">>().toExtend<ours.FailStepInput>();
    expectTypeOf<Given<"endRun">>().toExtend<ours.EndRunInput>();
    expectTypeOf<Given<"emitEvent">>().toExtend<ours.EmitEventInput>();
  });

  test("of ours has, beyond what is plain, only what may be absent", () => {
    type Added = Omit<ours.DurableRunStore, keyof plain.DurableRunStore>;
    expectTypeOf<Record<never, never>>().toExtend<Added>();
    expectTypeOf<keyof Added>().toEqualTypeOf<
      | "beginAfterMs"
      | "loadRun"
      | "waitForEvent"
      | "watchLease"
      | "suspendRun"
      | "cancelRun"
      | "resolveStep"
      | "restartRun"
      | "forkRun"
    >();
  });

  test("of ours has a clock that can be replaced, and what each is declared with besides", () => {
    type Clocked = { now: () => number };
    expectTypeOf<ours.InMemoryDurableRunStore>().toExtend<
      Clocked & { _inspect(runId: string): ours.RunRecord | undefined; _expireLease(runId: string): void }
    >();
    expectTypeOf<ours.D1DurableRunStore>().toExtend<
      Clocked & { getSchemaVersion(): Promise<number | undefined> }
    >();
    expectTypeOf<FileSystemDurableRunStore>().toExtend<Clocked & { _listRunIds(): Promise<string[]> }>();
    expectTypeOf<typeof ours.InMemoryDurableRunStore>().toExtend<new () => plain.DurableRunStore>();
    expectTypeOf<typeof FileSystemDurableRunStore>().toExtend<new (root: string) => plain.DurableRunStore>();
    expectTypeOf<typeof ours.D1DurableRunStore>().toExtend<
      new (db: plain.D1DatabaseLike) => plain.DurableRunStore
    >();
  });
});

describe("a runner", () => {
  test("of ours takes a plain task, a plain store and a plain input", () => {
    type PlainTask = (ctx: plain.DurableContext) => Promise<number>;
    type Run = (input: plain.RunDurableInput<number>) => Promise<plain.RunDurableResult<number>>;
    fits<PlainTask, ours.RunDurableInput<number>["taskFn"]>((task) => task);
    fits<plain.RunDurableInput<number>, ours.RunDurableInput<number>>((input) => input);
    fits<typeof ours.runDurable<number>, Run>((run) => run);
  });

  test("of ours takes plain steps of a Workflow", () => {
    type Run = (step: plain.WorkflowStepLike, input: plain.RunOnWorkflowStepInput<number>) => Promise<number>;
    fits<typeof ours.runOnWorkflowStep<number>, Run>((run) => run);
    fits<plain.WorkflowStepConfig, ours.WorkflowStepConfig>((config) => config);
    fits<plain.WorkflowStepLike, ours.WorkflowStepLike>((step) => step);
  });

  test("that is plain can give its task our context, and read our results", () => {
    fits<ours.DurableContext, plain.DurableContext>((ctx) => ctx);
    fits<ours.RunDurableResult<string>, plain.RunDurableResult<string>>((result) => result);
  });
});

describe("the declared shapes", () => {
  test("are ours, with the same fields and words", () => {
    expectTypeOf<ours.StepKind>().toEqualTypeOf<plain.StepKind>();
    expectTypeOf<ours.StepStatus>().toEqualTypeOf<plain.StepStatus>();
    expectTypeOf<ours.EventRecord>().toEqualTypeOf<plain.EventRecord>();
    expectTypeOf<ours.RunOutcome>().toEqualTypeOf<plain.RunOutcome>();
    expectTypeOf<ours.AgentTaskSpec>().toEqualTypeOf<plain.AgentTaskSpec>();
    expectTypeOf<ours.DurableRunManifest>().toEqualTypeOf<plain.DurableRunManifest>();
    expectTypeOf<ours.D1DatabaseLike>().toEqualTypeOf<plain.D1DatabaseLike>();
    expectTypeOf<ours.D1PreparedStatementLike>().toEqualTypeOf<plain.D1PreparedStatementLike>();
  });

  test("to which we add are read as plain ones, and take plain ones in", () => {
    expectTypeOf<ours.StepError>().toExtend<plain.StepError>();
    expectTypeOf<plain.StepError>().toExtend<ours.StepError>();
    expectTypeOf<ours.StepRecord<number>>().toExtend<plain.StepRecord<number>>();
    expectTypeOf<plain.StepRecord<number>>().toExtend<ours.StepRecord<number>>();
    expectTypeOf<ours.ClaimedRunRecord>().toExtend<plain.RunRecord>();
    expectTypeOf<plain.RunRecord>().toExtend<ours.RunRecord>();
    expectTypeOf<plain.RunStatus>().toExtend<ours.RunStatus>();
    expectTypeOf<Exclude<ours.RunStatus, "cancelled">>().toEqualTypeOf<plain.RunStatus>();
  });

  test("of identity are functions of the same types, or take more", () => {
    expectTypeOf(ours.canonicalHash).toEqualTypeOf<(value: unknown) => string>();
    expectTypeOf(ours.canonicalJson).toEqualTypeOf<(value: unknown) => string>();
    expectTypeOf(ours.manifestHash).toEqualTypeOf<(manifest: plain.DurableRunManifest) => string>();
    expectTypeOf(ours.stepId).toExtend<(runId: string, stepIndex: number, intent: string) => string>();
    expectTypeOf(ours.deriveWorkerId).toEqualTypeOf<() => string>();
  });

  test("of errors have every declared code", () => {
    expectTypeOf<plain.ErrorCode>().toExtend<ours.DurableRunErrorCode>();
    expectTypeOf(ours.DurableRunError).toBeConstructibleWith("message", "event_emit_race");
    type Made = new (message: string) => Error & { readonly code: string };
    expectTypeOf(ours.DurableRunLeaseHeldError).toExtend<Made>();
    expectTypeOf(ours.DurableRunInputMismatchError).toExtend<Made>();
    expectTypeOf(ours.DurableRunDivergenceError).toExtend<Made>();
    expectTypeOf(ours.DurableAwaitEventTimeoutError).toExtend<Made>();
  });
});

test("every declared name that is a value is exported", () => {
  expect(ours).toMatchObject({
    D1DurableRunStore: expect.any(Function) as unknown,
    InMemoryDurableRunStore: expect.any(Function) as unknown,
    canonicalHash: expect.any(Function) as unknown,
    canonicalJson: expect.any(Function) as unknown,
    deriveWorkerId: expect.any(Function) as unknown,
    manifestHash: expect.any(Function) as unknown,
    runDurable: expect.any(Function) as unknown,
    runOnWorkflowStep: expect.any(Function) as unknown,
    stepId: expect.any(Function) as unknown,
  });
});

test.each([
  [new ours.DurableRunError("m", "event_emit_race"), "DurableRunError", "event_emit_race"],
  [new ours.DurableRunLeaseHeldError("m"), "DurableRunLeaseHeldError", "lease_held"],
  [new ours.DurableRunInputMismatchError("m"), "DurableRunInputMismatchError", "manifest_mismatch"],
  [new ours.DurableRunDivergenceError("m"), "DurableRunDivergenceError", "step_divergence"],
  [new ours.DurableAwaitEventTimeoutError("m"), "DurableAwaitEventTimeoutError", "await_event_timeout"],
])("the declared errors have their name and code: %o", (error, name, code) => {
  expect(error).toBeInstanceOf(ours.DurableRunError);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name, code, message: "m" });
});
