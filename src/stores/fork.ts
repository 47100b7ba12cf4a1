/**
 * The way of a fork: reads the steps of one run, copies them into another, and seals that.
 *
 * Many requests, each repeatable; what holds while they are under way is the ledger's (ledger/forks.ts).
 */
import { DurableInvalidInputError, DurableStoreUnavailableError, errorFromData } from "../contract/errors.ts";
import { checkObject, checkInteger, checkRunId, checkText, LIMITS } from "../contract/limits.ts";
import { toJsonText } from "../contract/payload.ts";
import type { ForkRunOptions } from "../contract/types.ts";
import { newRequestId } from "../identity.ts";
import type { Op, RequestOf } from "../ledger/requests.ts";
import { unknownRun } from "../ledger/runs.ts";
import type { Body, RunView, StepState } from "../ledger/state.ts";
import { settledSteps } from "../ledger/steps.ts";
import type { Answers, CountedRun, Journal } from "./journal.ts";
import { readSteps } from "./journal.ts";
import { requestId } from "./to-request.ts";

interface Access {
  readonly journal: Journal;
  readonly submit: <O extends Op>(request: RequestOf<O>) => Promise<Answers[O]>;
}

export async function forkRun(
  { journal, submit }: Access,
  runId: string,
  newRunId: string,
  options: ForkRunOptions,
): Promise<CountedRun> {
  const { throughStep } = checked(runId, newRunId, options);
  const edits = editsOf(options);
  const manifest = await journal.manifest(runId);
  const source = await snapshot(journal, runId, throughStep);
  if (source === null || manifest === null) throw errorFromData(unknownRun(runId).error);
  const text = async (body: Body): Promise<Body> =>
    "text" in body ? body : { text: await journal.body(runId, body.ref) };

  const { steps } = source;
  const copied = settledSteps(steps);
  refuseStrayEdits(edits, copied);
  const { manifestHash, projectId, scenarioId } = source.run;
  const { run } = await submit<"fork">({
    op: "fork",
    runId: newRunId,
    requestId: requestId(options),
    manifestHash,
    projectId,
    scenarioId,
    task: manifest.task,
    tags: manifest.tags,
    input: await text(manifest.input),
    sourceRunId: runId,
    throughStep,
  });
  const { fence } = run;
  if (run.forkedFrom?.copying) {
    // One by one: a result may be large.
    for (const step of copied) {
      const { stepIndex } = step;
      const edit = edits.get(stepIndex);
      const result = edit ?? (step.result && (await text(step.result)));
      const as: StepState = edit
        ? { ...step, result: null, error: null, status: "completed", inDoubt: false }
        : { ...step, result: null };
      await submit<"copy">({
        op: "copy",
        runId: newRunId,
        requestId: newRequestId(),
        fence,
        stepIndex,
        step: as,
        result,
      });
    }
  }
  return submit<"seal">({ op: "seal", runId: newRunId, requestId: newRequestId(), fence });
}

function checked(runId: string, newRunId: string, options: ForkRunOptions): ForkRunOptions {
  checkRunId(runId);
  checkText("newRunId", newRunId, LIMITS.runIdBytes);
  if (runId === newRunId)
    throw new DurableInvalidInputError("newRunId", "must not be the run that is forked");
  checkObject("options", options);
  checkInteger("throughStep", options.throughStep, 0, LIMITS.steps - 1);
  return options;
}

function editsOf({ edits = {} }: ForkRunOptions): Map<number, Body> {
  checkObject("edits", edits);
  const bodies = new Map<number, Body>();
  for (const [position, result] of Object.entries(edits)) {
    if (!/^(?:0|[1-9]\d*)$/.test(position)) {
      throw new DurableInvalidInputError("edits", `names ${JSON.stringify(position)}, which is no position`);
    }
    bodies.set(Number(position), { text: toJsonText(`edits[${position}]`, result) });
  }
  return bodies;
}

/** How often a source that changes while it is read is read again. */
const MAX_READINGS = 10;

/**
 * The run and its steps through one, as they were at one moment, though its worker goes on: no step that is left out
 * for not having ended may have ended before another that is taken began. `null` for an unknown run.
 */
async function snapshot(
  journal: Journal,
  runId: string,
  throughStep: number,
): Promise<{ run: RunView; steps: StepState[] } | null> {
  for (let reading = 0; reading < MAX_READINGS; reading += 1) {
    const before = await journal.run(runId);
    if (before === null) return null;
    const steps = (await readSteps(journal, runId)).filter(({ stepIndex }) => stepIndex <= throughStep);
    if (steps.at(-1)?.stepIndex !== throughStep) {
      throw new DurableInvalidInputError(
        "throughStep",
        `is ${throughStep}, but run "${runId}" has no such step on record`,
      );
    }
    const read = new Map(steps.map((step) => [step.stepIndex, step]));
    // Those that are not on record, too: of two branches, the later position may have been begun first.
    const open = Array.from({ length: throughStep + 1 }, (_, position) => position).filter(
      (position) => read.get(position)?.status !== "completed",
    );
    const later = new Map((await readSteps(journal, runId)).map((step) => [step.stepIndex, step]));
    const after = await journal.run(runId);
    const isSame = open.every((position) => {
      const [was, is] = [read.get(position), later.get(position)];
      return is?.status === was?.status && is?.attempts === was?.attempts;
    });
    if (isSame && after?.run.fence === before.run.fence) return { run: after.run, steps };
  }
  throw new DurableStoreUnavailableError(`run "${runId}" changed while it was read, ${MAX_READINGS} times`);
}

function refuseStrayEdits(edits: ReadonlyMap<number, Body>, copied: readonly StepState[]): void {
  for (const position of edits.keys()) {
    if (copied.some(({ stepIndex }) => stepIndex === position)) continue;
    throw new DurableInvalidInputError(
      "edits",
      `names step ${position}, which is not among the copied steps`,
    );
  }
}
