/** A worker in a process of its own: carries out commands from its standard input, a JSON line each, one by one. */
import { createInterface } from "node:readline";
import { codeOf } from "../../../src/contract/errors.ts";
import type { BeginStepInput, CompleteStepInput, StartOrResumeInput } from "../../../src/contract/types.ts";
import { FileSystemDurableRunStore } from "../../../src/node.ts";

export type WorkerCommand =
  | { op: "claim"; input: StartOrResumeInput }
  | { op: "begin"; input: BeginStepInput }
  | { op: "complete"; input: CompleteStepInput }
  | { op: "restart"; runId: string; fromStep: number }
  /** Records steps from 0 on, and answers after each, until one is refused. */
  | { op: "loop"; runId: string; fence: number }
  /** As fast as it can: claims a run again and again, records every `stride`th step, emits `key 0`, `key 1`, … */
  | { op: "claims"; input: StartOrResumeInput; count: number }
  | { op: "steps"; runId: string; from: number; stride: number; count: number }
  | { op: "emits"; runId: string; payload: unknown; count: number };

export interface WorkerAnswer {
  /** The fence of a claim or of a restart, the position of a completed step. */
  value?: number | undefined;
  /** The fences of the claims, the positions of the steps, the numbers of the keys whose event was accepted. */
  values?: number[];
  /** The code of the error that the call was refused with. */
  code?: string | undefined;
}

const [, , root = ""] = process.argv;
const store = new FileSystemDurableRunStore(root);

console.log(JSON.stringify({ value: process.pid }));
for await (const line of createInterface(process.stdin)) {
  const command = JSON.parse(line) as WorkerCommand;
  try {
    console.log(JSON.stringify(await carryOut(command)));
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    console.log(JSON.stringify({ code }));
  }
}

async function carryOut(command: WorkerCommand): Promise<WorkerAnswer> {
  switch (command.op) {
    case "claim":
      return { value: (await store.startOrResume(command.input)).fence };
    case "begin":
      return { value: (await store.beginStep(command.input)).stepIndex };
    case "complete":
      return { value: (await store.completeStep(command.input)).stepIndex };
    case "restart":
      return { value: (await store.restartRun(command.runId, { ...command, dropLater: true })).fence };
    case "loop":
      for (let stepIndex = 0; ; stepIndex++) {
        await recordStep(command.runId, stepIndex, command.fence);
        console.log(JSON.stringify({ value: stepIndex }));
      }
    case "claims":
      return repeat(command.count, async () => (await store.startOrResume(command.input)).fence!);
    case "steps":
      return repeat(command.count, (i) => recordStep(command.runId, command.from + i * command.stride));
    case "emits":
      return repeat(command.count, async (i) => {
        const { runId, payload } = command;
        return (await store.emitEvent({ runId, key: `key ${i}`, payload })).accepted ? i : null;
      });
  }
}

async function recordStep(runId: string, stepIndex: number, fence?: number): Promise<number> {
  const held = fence === undefined ? {} : { fence };
  await store.beginStep({
    runId,
    stepIndex,
    intent: `step ${stepIndex}`,
    kind: "logic",
    inputHash: "",
    ...held,
  });
  await store.completeStep({ runId, stepIndex, result: `result ${stepIndex}`, ...held });
  return stepIndex;
}

async function repeat(count: number, act: (i: number) => Promise<number | null>): Promise<WorkerAnswer> {
  const values: number[] = [];
  for (let i = 0; i < count; i++) {
    const value = await act(i);
    if (value !== null) values.push(value);
  }
  return { values };
}
