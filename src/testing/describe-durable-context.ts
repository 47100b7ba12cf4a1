/**
 * The suite of `DurableContext`: what a task is promised, whatever runs it. `describeRunStore` has it over `runDurable`
 * and its store. Call it yourself for something else that runs tasks, in a vitest file; each test begins runs of its own.
 */
import { describe, it as vitestIt } from "vitest";
import { describeContextGroups } from "./conformance/context/groups.ts";
import { describeContextSteps } from "./conformance/context/steps.ts";
import { describeContextWaits } from "./conformance/context/waits.ts";
import type { ContextIt, ContextSuiteOptions } from "./context-harness.ts";

const PATIENCE_MS = 120_000;

export function describeDurableContext(name: string, { start, skip = {} }: ContextSuiteOptions): void {
  describe(`${name} runs tasks`, () => {
    describeContext((title, body) => {
      const reason = skip[title];
      const test = reason === undefined ? vitestIt : vitestIt.skip;
      test(reason === undefined ? title : `${title} (${reason})`, () => body(start), PATIENCE_MS);
    });
  });
}

/** The tests, registered with whatever `it` is given. */
export function describeContext(it: ContextIt): void {
  describeContextSteps(it);
  describeContextWaits(it);
  describeContextGroups(it);
}
