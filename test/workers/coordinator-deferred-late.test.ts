/**
 * Deferred commits (0026): a batch of an earlier instance that reaches D1 late, and what was acknowledged under
 * `coordinator` on a run that others use with `record`.
 */
import { runInDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { aRun, aStep, refusalOf } from "../../src/testing/harness.ts";
import { claim, recordedRun, recordedStep, saved, store, stubOf, trailing } from "./coordinator-world.ts";
import { caught, db, useCatchingWorld } from "./catching-world.ts";
import { abort, drained } from "./disasters.ts";

useCatchingWorld();

const completion = (run: { runId: string; fence: number }, stepIndex: number, result: unknown) => ({
  ...run,
  stepIndex,
  attempt: 1,
  result,
});

it.each([
  ["without storage", claim],
  ["with storage that may trail", trailing],
] as const)("a late batch does not win over the same step's later end: %s", async (_what, begin) => {
  const run = await begin();
  const { runId, fence } = run;
  await store().beginStep(aStep(runId, 0, { fence }));
  await caught(runId, () => store().completeStep(completion(run, 0, "of an earlier life")));
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().failStep({ runId, stepIndex: 0, fence, attempt: 1, error: { message: "no" } });
  await db.deliver();
  expect(await recordedStep(runId)).toMatchObject({ status: "failed" });
  await abort(runId);
  expect(await store().loadStep(runId, 0)).toMatchObject({ status: "failed" });
});

it("a late batch with the run's row is refused, and takes nothing from what was acknowledged since", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  const wait = { kind: "event", timeoutMs: 60_000, waitFor: { kind: "event", key: "k" } } as const;
  await store().beginStep(aStep(runId, 0, { fence, ...wait }));
  await saved(runId);
  await drained(runId);
  await caught(runId, () => store().completeStep(completion(run, 0, "of an earlier life")));
  await store("coordinator").beginStep(aStep(runId, 1, { fence }));
  await store("coordinator").completeStep(completion(run, 1, "paid"));
  const before = await recordedRun(runId);
  await db.deliver();
  expect(await recordedRun(runId)).toEqual(before);
  expect(await refusalOf(() => store().beginStep(aStep(runId, 2, { fence })))).toBe("accepted");
  expect(await refusalOf(() => store().completeStep(completion(run, 2, "paid too")))).toBe("accepted");
  expect(await recordedStep(runId, 1)).toMatchObject({ result: '"paid"' });
  await abort(runId);
  expect(await store().loadStep(runId, 0)).toMatchObject({ status: "running" });
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  const results = completedSteps.map(({ stepIndex, result }) => [stepIndex, result]);
  expect(results).toEqual([
    [1, "paid"],
    [2, "paid too"],
  ]);
});

it("what was acknowledged under coordinator in the middle of deferrals outlives the object and an outage", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  for (const stepIndex of [0, 1]) {
    await store().beginStep(aStep(runId, stepIndex, { fence }));
    await store().completeStep(completion(run, stepIndex, "paid"));
  }
  db.mode = "fails";
  await store("coordinator").beginStep(aStep(runId, 2, { fence }));
  await store("coordinator").completeStep(completion(run, 2, "paid"));
  await abort(runId);
  db.mode = "open";
  await store().beginStep(aStep(runId, 3, { fence }));
  await store().completeStep(completion(run, 3, "paid"));
  await abort(runId);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  expect(completedSteps.map(({ stepIndex }) => stepIndex)).toEqual([0, 1, 2, 3]);
});

it("no revision is given out twice, however often the object dies", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  const revisions: number[] = [];
  for (let stepIndex = 0; stepIndex < 4; stepIndex += 1) {
    await store().beginStep(aStep(runId, stepIndex, { fence }));
    await store().completeStep(completion(run, stepIndex, "paid"));
    revisions.push(Number((await recordedStep(runId, stepIndex))?.["revision"]));
    await abort(runId);
    // It catches up, and dies again before it has changed anything.
    await store().loadRun(runId);
    await abort(runId);
  }
  for (const [i, revision] of revisions.entries()) expect(revision).toBeGreaterThan(revisions[i - 1] ?? 0);
});

it("storage that was restored to before an event does not take another one in its place", async () => {
  const { runId } = await trailing();
  await runInDurableObject(stubOf(runId), (_object, { storage }) => {
    storage.sql.exec("DELETE FROM durable_rows WHERE kind = 'event'");
    storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
  });
  await abort(runId);
  const again = await store().emitEvent({ runId, key: "first", payload: 2 });
  expect(again).toMatchObject({ accepted: false, record: { payload: 1 } });
});

it("storage that was restored to before the end of its run says that it has ended", async () => {
  const { runId, fence } = await trailing();
  const before = await runInDurableObject(stubOf(runId), (_object, { storage }) =>
    storage.sql
      .exec(
        "SELECT revision, row->>'$.leaseExpiresAt' AS lease_expires_at FROM durable_rows WHERE kind = 'run'",
      )
      .one(),
  );
  await store().endRun({ runId, workerId: "worker-1", fence, status: "completed", result: 7 });
  await runInDurableObject(stubOf(runId), (_object, { storage }) => {
    storage.sql.exec(
      "UPDATE durable_rows SET row = json_set(row, '$.status', 'running', '$.completedAt', NULL, '$.result', NULL, '$.revision', ?1, '$.leaseExpiresAt', ?2), revision = ?1 WHERE kind = 'run'",
      ...Object.values(before),
    );
    storage.sql.exec("DELETE FROM durable_rows WHERE id = 'recorded_revision'");
  });
  await abort(runId);
  const { run } = await store().startOrResume({ ...aRun(), runId });
  expect(run).toMatchObject({ status: "completed", result: 7 });
  expect(run.leaseExpiresAt).toBeUndefined();
});

it("a late batch brings nothing back that a restart has dropped since", async () => {
  const run = await trailing();
  const { runId, fence } = run;
  await store().beginStep(aStep(runId, 0, { fence }));
  await store().completeStep(completion(run, 0, "kept"));
  const wait = { kind: "event", timeoutMs: 60_000, waitFor: { kind: "event", key: "k" } } as const;
  await store().beginStep(aStep(runId, 1, { fence, ...wait }));
  await saved(runId);
  await drained(runId);
  await caught(runId, () => store().completeStep(completion(run, 1, "of an earlier life")));
  let deliveries = 0;
  db.before = async (queries) => {
    if (!queries.some((query) => /DELETE FROM durable_steps/.test(query)) || deliveries > 0) return;
    deliveries += 1;
    await db.deliver();
  };
  await store().restartRun(runId, { fromStep: 1, dropLater: true });
  expect(deliveries).toBe(1);
  expect([await store().loadStep(runId, 1), await recordedStep(runId, 1)]).toEqual([undefined, null]);
  const { completedSteps } = await store().startOrResume({ ...aRun(), runId });
  expect(completedSteps.map(({ result }) => result)).toEqual(["kept"]);
});
