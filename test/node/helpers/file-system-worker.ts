/** A worker in a process of its own: carries out commands from its standard input, a JSON line each, one by one. */
import { createInterface } from "node:readline";
import { codeOf } from "../../../src/contract/errors.ts";
import type {
  BeginStepInput,
  CompleteStepInput,
  EmitEventInput,
  StartOrResumeInput,
} from "../../../src/contract/types.ts";
import { FileSystemDurableRunStore } from "../../../src/node.ts";

export type WorkerCommand =
  | { op: "claim"; input: StartOrResumeInput }
  | { op: "begin"; input: BeginStepInput }
  | { op: "complete"; input: CompleteStepInput }
  | { op: "emit"; input: EmitEventInput }
  /** Records steps from 0 on, and answers after each, until one is refused. */
  | { op: "loop"; runId: string; fence: number };

export interface WorkerAnswer {
  /** The fence of a claim, the position of a completed step. */
  value?: number | undefined;
  accepted?: boolean;
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
    case "emit":
      return { accepted: (await store.emitEvent(command.input)).accepted };
    case "loop":
      return loop(command.runId, command.fence);
  }
}

async function loop(runId: string, fence: number): Promise<never> {
  for (let stepIndex = 0; ; stepIndex++) {
    await store.beginStep({
      runId,
      stepIndex,
      intent: `step ${stepIndex}`,
      kind: "logic",
      inputHash: "",
      fence,
    });
    await store.completeStep({ runId, stepIndex, result: `result ${stepIndex}`, fence });
    console.log(JSON.stringify({ value: stepIndex }));
  }
}
