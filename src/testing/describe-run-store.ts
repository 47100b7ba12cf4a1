/**
 * The conformance suite: what a store of durable runs is, as tests (R2).
 *
 * Every store of this package passes it, and so should one of yours: call `describeRunStore` in a vitest file. Each test
 * takes a run of its own; the store is shared between them. A store that lacks an optional method passes: the tests of that
 * method are skipped, and say so.
 */
import type { TestContext } from "vitest";
import { beforeAll, describe, expect, it as vitestIt } from "vitest";
import { describeArguments } from "./conformance/arguments.ts";
import { describeBranches } from "./conformance/branches.ts";
import { describeCancels } from "./conformance/cancels.ts";
import { describeClaims } from "./conformance/claims.ts";
import { describeEvents } from "./conformance/events.ts";
import { describeFencesAndEnds } from "./conformance/fences-and-ends.ts";
import { describeForkRaces } from "./conformance/fork-races.ts";
import { describeForks } from "./conformance/forks.ts";
import { describeStepsInDoubt } from "./conformance/in-doubt.ts";
import { describeLateBegins } from "./conformance/late-begins.ts";
import { describePayloadsAndInput } from "./conformance/payloads.ts";
import { describeResolutions } from "./conformance/resolutions.ts";
import { describeRestartRaces } from "./conformance/restart-races.ts";
import { describeRestarts } from "./conformance/restarts.ts";
import { describeRetries } from "./conformance/retries.ts";
import { describeSteps } from "./conformance/steps.ts";
import { describeTasks } from "./conformance/tasks.ts";
import { Suite } from "./conformance/suite.ts";
import { describeSuspensions } from "./conformance/suspensions.ts";
import { describeEndedWaits } from "./conformance/ended-waits.ts";
import { describeWaits } from "./conformance/waits.ts";
import { describeWatches } from "./conformance/watches.ts";
import type { StoreHarness, SuiteOptions } from "./harness.ts";
import { aRun } from "./harness.ts";

const PATIENCE_MS = 120_000;

export function describeRunStore(name: string, { newStore, skip = {} }: SuiteOptions): void {
  const it = (title: string, body: (context: TestContext) => Promise<void>): void => {
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
    describeLateBegins(suite);
    describeFencesAndEnds(suite);
    describeEvents(suite);
    describePayloadsAndInput(suite);
    describeRetries(suite);
    describeBranches(suite);
    describeStepsInDoubt(suite);
    describeResolutions(suite);
    describeSuspensions(suite);
    describeWaits(suite);
    describeEndedWaits(suite);
    describeWatches(suite);
    describeCancels(suite);
    describeRestarts(suite);
    describeRestartRaces(suite);
    describeForks(suite);
    describeTasks(suite);
    describeForkRaces(suite);
    describeArguments(suite);

    it("closes twice, and what is recorded stays", async (context) => {
      const other = await newStore();
      if (other.store.loadRun === undefined) context.skip("the store has no loadRun");
      const input = aRun();
      await other.store.startOrResume(input);
      await other.store.close();
      await other.store.close();
      const reopened = other.reopen?.() ?? other.store;
      expect(await reopened.loadRun?.(input.runId)).toMatchObject({ status: "running" });
    });
  });
}
