/**
 * The conformance suite: what a store of durable runs is, as tests (R2).
 *
 * Every store of this package passes it, and so should one of yours: call `describeRunStore` in a vitest file. Each test
 * takes a run of its own; the store is shared between them.
 */
import { beforeAll, describe, expect, it as vitestIt } from "vitest";
import { describeClaims } from "./conformance/claims.ts";
import { describeEvents } from "./conformance/events.ts";
import { describeFencesAndEnds } from "./conformance/fences-and-ends.ts";
import { describePayloadsAndInput } from "./conformance/payloads.ts";
import { describeSteps } from "./conformance/steps.ts";
import { Suite } from "./conformance/suite.ts";
import type { StoreHarness, SuiteOptions } from "./harness.ts";
import { aRun } from "./harness.ts";

const PATIENCE_MS = 120_000;

export function describeRunStore(name: string, { newStore, skip = {} }: SuiteOptions): void {
  const it = (title: string, body: () => Promise<void>): void => {
    const reason = skip[title];
    const test = reason === undefined ? vitestIt : vitestIt.skip;
    test(reason === undefined ? title : `${title} (${reason})`, body, PATIENCE_MS);
  };

  describe(`${name} is a run store`, () => {
    let harness: StoreHarness;
    beforeAll(async () => {
      harness = await newStore();
    });
    const suite = new Suite(() => harness, it);

    describeClaims(suite);
    describeSteps(suite);
    describeFencesAndEnds(suite);
    describeEvents(suite);
    describePayloadsAndInput(suite);

    it("closes twice, and what is recorded stays", async () => {
      const other = await newStore();
      const input = aRun();
      await other.store.startOrResume(input);
      await other.store.close();
      await other.store.close();
      const reopened = other.reopen?.() ?? other.store;
      expect(await reopened.loadRun?.(input.runId)).toMatchObject({ status: "running" });
    });
  });
}
