/** History over the binding: what RunHistory answers of the same D1, within the binding's scope. */
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, test } from "vitest";
import { RunHistory } from "../../src/history/run-history.ts";
import type { RunHistoryReads } from "../../src/history/types.ts";
import { newRunId } from "../../src/identity.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { HistoryRead } from "../../src/service/wire.ts";
import { HISTORY_READ_NAMES } from "../../src/service/wire.ts";
import { MANIFEST, refusalOf } from "../../src/testing/harness.ts";
import { runsOver, sessionOf } from "./rpc-world.ts";

const all = runsOver(env.RUNS_SERVICE);
const mine = runsOver(env.RUNS_OF_A);
/** Two bytes a character on the wire as a string, three in UTF-8. */
const LARGE = "€".repeat(1_500_000);
const FOREIGN = "project-b";

type Call = (history: RunHistoryReads, runId: string) => Promise<unknown>;
const calls: Record<HistoryRead, Call> = {
  list: (history) => history.list({ status: ["completed", "running"], limit: 3 }),
  get: (history, runId) => history.get(runId),
  steps: (history, runId) => history.steps(runId, { results: false }),
  step: (history, runId) => history.step(runId, 0),
  events: (history, runId) => history.events(runId),
  event: (history, runId) => history.event(runId, "secret"),
  stats: (history) => history.stats({ by: "day" }),
  stuck: (history) => history.stuck({ graceMs: 1_000 }),
};

async function aRunOf(projectId: string): Promise<string> {
  const runId = newRunId();
  await runDurable({
    runId,
    store: all,
    manifest: { ...MANIFEST, projectId },
    taskFn: async (ctx) => {
      await ctx.step("large", async () => LARGE);
      await all.emitEvent({ runId, key: "secret", payload: projectId });
      return projectId;
    },
  });
  return runId;
}

let ownRun: string;
let foreignRun: string;
beforeAll(async () => {
  ownRun = await aRunOf("project-a");
  foreignRun = await aRunOf(FOREIGN);
});

test("every read that there is is in the table", () => {
  expect(Object.keys(calls).toSorted()).toEqual(HISTORY_READ_NAMES.toSorted());
});

describe.each(Object.entries(calls))("%s", (_name, call) => {
  test("answers over the binding what RunHistory does", async () => {
    const direct = await call(new RunHistory(env.DB), ownRun);
    expect(direct).toBeDefined();
    const plain: unknown = JSON.parse(JSON.stringify(direct));
    expect(await call(all.history, ownRun)).toEqual(plain);
    expect(await call(runsOver(env.RUNS_FOR_READING).history, ownRun)).toEqual(plain);
  });

  test("tells a binding of one project of that one alone", async () => {
    const told = await call(mine.history, ownRun);
    expect(told).toEqual(
      JSON.parse(JSON.stringify(await call(new RunHistory(env.DB, { projectId: "project-a" }), ownRun))),
    );
    const foreign = await call(mine.history, foreignRun).catch((error: { code: string }) => error.code);
    const text = JSON.stringify(foreign) ?? "nothing";
    expect(text).not.toContain(foreignRun);
    expect(text).not.toContain(FOREIGN);
    expect(text).not.toContain("€");
  });
});

test("a question about another project is forbidden", async () => {
  for (const ask of [
    () => mine.history.list({ projectId: FOREIGN }),
    () => mine.history.stats({ projectId: FOREIGN }),
    () => mine.history.stuck({ projectId: FOREIGN }),
  ]) {
    expect(await refusalOf(ask)).toBe("forbidden");
  }
});

test("a page's cursor goes on over the binding, and shows each run once", async () => {
  const seen: string[] = [];
  for (let cursor: string | undefined = ""; cursor !== undefined;) {
    const page = await all.history.list({ limit: 1, ...(cursor !== "" && { cursor }) });
    seen.push(...page.runs.map(({ runId }) => runId));
    ({ cursor } = page);
  }
  expect(seen.toSorted()).toEqual([ownRun, foreignRun].toSorted());
});

test("errors are typed, and name the field", async () => {
  expect(await refusalOf(() => all.history.steps(newRunId()))).toBe("run_not_found");
  await expect(() => all.history.list({ limit: 0 })).rejects.toMatchObject({
    name: "DurableInvalidInputError",
    field: "limit",
  });
  expect(await all.history.get(newRunId())).toBeUndefined();
  const noJson = { taskId: 1n as unknown as string };
  expect(await refusalOf(() => all.history.list(noJson))).toBe("payload_not_json");
});

test("only what is on the list can be called, with arguments that are a list", async () => {
  const session = sessionOf(env.RUNS_SERVICE);
  const names = ["purge", "rollUp", "constructor", "__proto__", "toString", "bookmark", 7, undefined];
  for (const name of names as HistoryRead[]) {
    const answer = await session.history(name, "[]");
    expect(answer).toMatchObject({ ok: false, error: { code: "invalid_input", field: "name" } });
  }
  for (const args of ["", "{", "7", '{"limit":1}', "null"]) {
    const answer = await session.history("list", args);
    expect(answer).toMatchObject({ ok: false, error: { code: "invalid_input", field: "args" } });
  }
});
