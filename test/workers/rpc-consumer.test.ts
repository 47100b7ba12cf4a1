/** examples/rpc-consumer as it is, beside the Worker that holds its runs: a consumer that dies in the middle of a call. */
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { newRunId } from "../../src/identity.ts";
import { MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { wait } from "./coordinator-world.ts";
import { clockOfRuns, runsOver } from "./rpc-world.ts";

const ITEMS = ["one", "two", "three", "four"];
const all = runsOver(env.RUNS_SERVICE);

function post(runId: string, signal?: AbortSignal): Promise<Response> {
  const body = JSON.stringify({ items: ITEMS });
  return env.RPC_CONSUMER.fetch(`https://consumer.test/runs/${runId}`, {
    method: "POST",
    body,
    ...(signal && { signal }),
  });
}

test("runs a task in its own Worker, shows it, and lists it", async () => {
  const runId = newRunId();
  const response = await post(runId);
  expect(await response.json()).toEqual({
    runId,
    status: "completed",
    result: "a parcel with one (wrapped), two (wrapped), three (wrapped), four (wrapped)",
  });
  const shown = await env.RPC_CONSUMER.fetch(`https://consumer.test/runs/${runId}`);
  const { run, steps } = await shown.json<{ run: object; steps: unknown[] }>();
  expect(run).toMatchObject({ status: "completed", projectId: "rpc-consumer" });
  expect(steps).toHaveLength(ITEMS.length + 1);
  const list = await env.RPC_CONSUMER.fetch("https://consumer.test/runs");
  const { runs } = await list.json<{ runs: { runId: string }[] }>();
  expect(runs).toContainEqual(expect.objectContaining({ runId }));
});

test("a consumer that dies in a call leaves a run that another takes over, without its recorded steps", async () => {
  const runId = newRunId();
  const life = new AbortController();
  const dying = post(runId, life.signal).catch(() => "dead");
  await expect.poll(async () => (await all.loadStep(runId, 0))?.status).toBe("completed");
  life.abort();
  expect(await dying).toBe("dead");
  // It is dead: nobody works on, and nobody renews the lease, which happens more than once a second.
  const untilStill = async (): Promise<boolean> => {
    const left = await all.loadRun(runId);
    await wait(1_000);
    return JSON.stringify(left) === JSON.stringify(await all.loadRun(runId));
  };
  await expect.poll(untilStill).toBe(true);
  expect(await all.loadRun(runId)).toMatchObject({ status: "running", takeovers: 0 });
  const first = await all.loadStep(runId, 0);

  clockOfRuns.advance(10_000);
  await clockOfRuns.arrived();
  expect(await (await post(runId)).json()).toMatchObject({ status: "completed" });
  expect(await all.loadRun(runId)).toMatchObject({ takeovers: 1, fence: 2 });
  expect(await all.loadStep(runId, 0)).toEqual(first);
});

test("what its binding does not allow is forbidden", async () => {
  const runId = newRunId();
  const manifest = { ...MANIFEST, projectId: "another" };
  await all.startOrResume({ runId, workerId: "worker-1", manifest });
  const response = await post(runId);
  expect(response.status).toBe(403);
  expect(await response.json()).toMatchObject({ code: "forbidden" });
  expect(await refusalOf(() => all.cancelRun(runId))).toBe("accepted");
});
