/** RunHistory.list: the right runs, in order, in pages of any length, whatever is asked. */
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import type { RunStatus } from "../../src/contract/types.ts";
import { RunHistory } from "../../src/history/run-history.ts";
import type { ListRunsOptions, RunFilter, RunPage, RunSummary } from "../../src/history/types.ts";
import { WALK_ROWS } from "../../src/history/walk.ts";
import type { Cells } from "./history-world.ts";
import { AT, insert, insertTags, iso, runRow } from "./history-world.ts";

const history = new RunHistory(env.DB);

beforeEach(async () => {
  await env.DB.exec("DELETE FROM durable_runs");
  await env.DB.exec("DELETE FROM durable_tags");
});

async function allPages(
  options: ListRunsOptions,
  asker = history,
): Promise<{ runs: RunSummary[]; pages: RunPage[] }> {
  const pages: RunPage[] = [];
  let cursor: string | undefined;
  do {
    const page = await asker.list({ ...options, ...(cursor && { cursor }) });
    pages.push(page);
    cursor = page.cursor;
  } while (cursor);
  return { runs: pages.flatMap((page) => page.runs), pages };
}

const STATUSES = ["pending", "running", "completed", "failed", "suspended", "cancelled"] as const;
const ENDED: readonly RunStatus[] = ["completed", "failed", "cancelled"];
const few = (prefix: string) => fc.constantFrom(`${prefix}-1`, `${prefix}-2`, `${prefix}-é`);
const instant = fc.integer({ min: 0, max: 12 }).map((n) => AT + n * 1_000);
const score = fc.constantFrom(0, 0.25, 0.5, 1, -3);

interface Model {
  status: RunStatus;
  projectId: string;
  scenarioId: string | null;
  taskId: string;
  workerId: string;
  leased: boolean;
  takeovers: number;
  createdAt: number;
  tookMs: number;
  tags: Record<string, string> | null;
  outcome: { pass?: boolean; score?: number } | null;
}

const aModel: fc.Arbitrary<Model> = fc.record({
  status: fc.constantFrom(...STATUSES),
  projectId: few("p"),
  scenarioId: fc.option(few("s")),
  taskId: few("t"),
  workerId: few("w"),
  leased: fc.boolean(),
  takeovers: fc.integer({ min: 0, max: 3 }),
  createdAt: instant,
  tookMs: fc.constantFrom(0, 1_000, 5_000),
  tags: fc.option(
    fc.dictionary(fc.constantFrom("a", "b"), fc.constantFrom("", "1", "2"), { noNullPrototype: true }),
  ),
  outcome: fc.option(fc.record({ pass: fc.boolean(), score }, { requiredKeys: [] })),
});

const aFilter: fc.Arbitrary<RunFilter> = fc.record(
  {
    projectId: few("p"),
    scenarioId: few("s"),
    status: fc.oneof(fc.constantFrom(...STATUSES), fc.subarray([...STATUSES], { minLength: 1 })),
    tags: fc.dictionary(fc.constantFrom("a", "b"), fc.constantFrom("", "1", "2"), { noNullPrototype: true }),
    taskId: few("t"),
    createdFrom: instant.map(iso),
    createdTo: instant.map(iso),
    completedFrom: instant.map(iso),
    completedTo: instant.map(iso),
    pass: fc.boolean(),
    minScore: score,
    maxScore: score,
    heldBy: few("w"),
    takeoversOver: fc.integer({ min: 0, max: 3 }),
  },
  { requiredKeys: [] },
);

const isEnded = (one: Model) => ENDED.includes(one.status);
const completedAt = (one: Model) => (isEnded(one) ? one.createdAt + one.tookMs : null);
const isHeld = (one: Model) => one.status === "running" && one.leased;

function toRow(one: Model, i: number): Cells {
  return runRow(`run-${String(i).padStart(3, "0")}`, {
    status: one.status,
    project_id: one.projectId,
    scenario_id: one.scenarioId,
    task: JSON.stringify({ id: one.taskId, intent: "test" }),
    worker_id: one.workerId,
    lease_expires_at: isHeld(one) ? AT : null,
    takeovers: one.takeovers,
    created_at: one.createdAt,
    completed_at: completedAt(one),
    tags: one.tags === null ? null : JSON.stringify(one.tags),
    outcome: one.outcome === null ? null : JSON.stringify(one.outcome),
  });
}

/** The filters, said once more, the plain way. */
function holds(one: Model, filter: RunFilter): boolean {
  const from = (text: string | undefined) => (text === undefined ? -Infinity : Date.parse(text));
  const to = (text: string | undefined) => (text === undefined ? Infinity : Date.parse(text));
  const completed = completedAt(one);
  const asksForCompletion = filter.completedFrom !== undefined || filter.completedTo !== undefined;
  return [
    filter.projectId === undefined || one.projectId === filter.projectId,
    filter.scenarioId === undefined || one.scenarioId === filter.scenarioId,
    filter.status === undefined || [filter.status].flat().includes(one.status),
    Object.entries(filter.tags ?? {}).every(([key, value]) => one.tags?.[key] === value),
    filter.taskId === undefined || one.taskId === filter.taskId,
    one.createdAt >= from(filter.createdFrom) && one.createdAt < to(filter.createdTo),
    !asksForCompletion ||
      (completed !== null && completed >= from(filter.completedFrom) && completed < to(filter.completedTo)),
    filter.pass === undefined || one.outcome?.pass === filter.pass,
    filter.minScore === undefined || (one.outcome?.score ?? -Infinity) >= filter.minScore,
    filter.maxScore === undefined || (one.outcome?.score ?? Infinity) <= filter.maxScore,
    filter.heldBy === undefined || (isHeld(one) && one.workerId === filter.heldBy),
    filter.takeoversOver === undefined || one.takeovers > filter.takeoversOver,
  ].every(Boolean);
}

describe("pages of a list, one after the other", () => {
  it("are all runs that the filters hold for, newest first, whatever the filters and the length of a page", async () => {
    const world = fc.array(aModel, { minLength: 1, maxLength: 60 });
    const questions = fc.array(fc.tuple(aFilter, fc.integer({ min: 1, max: 25 })), {
      minLength: 4,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(world, questions, async (models, asked) => {
        await env.DB.exec("DELETE FROM durable_runs");
        await env.DB.exec("DELETE FROM durable_tags");
        const rows = models.map(toRow);
        await insert("durable_runs", rows);
        await insertTags(rows);
        for (const [filter, limit] of asked) {
          const byCompletion = filter.completedFrom !== undefined || filter.completedTo !== undefined;
          const keyed = models.map((one, i) => ({
            one,
            runId: String(rows[i]?.["run_id"]),
            at: (byCompletion ? completedAt(one) : one.createdAt) ?? 0,
          }));
          const expected = keyed
            .filter(({ one }) => holds(one, filter))
            .toSorted((a, b) => b.at - a.at || (a.runId < b.runId ? 1 : -1))
            .map(({ runId }) => runId);
          const { runs, pages } = await allPages({ ...filter, limit });
          expect(runs.map(({ runId }) => runId)).toEqual(expected);
          expect(pages.every((page) => page.runs.length <= limit)).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("may be short or empty where filters leave out more rows than a page looks at, and still miss nothing", async () => {
    const count = WALK_ROWS * 2 + 10;
    const rows = Array.from({ length: count }, (_one, i) =>
      runRow(`run-${String(i).padStart(5, "0")}`, {
        created_at: AT + i,
        takeovers: 1,
        scenario_id: i === 3 ? "rare" : "common",
        project_id: i === 3 ? "rare" : "common",
      }),
    );
    await insert("durable_runs", rows);
    const { runs, pages } = await allPages({ takeoversOver: 0, projectId: "rare" });
    expect(runs.map(({ runId }) => runId)).toEqual(["run-00003"]);
    expect(pages.map((page) => page.runs.length)).toEqual([0, 0, 1]);
  });

  it("goes on among runs that began in one and the same millisecond", async () => {
    const count = WALK_ROWS + 20;
    const rows = Array.from({ length: count }, (_one, i) =>
      runRow(`run-${String(i).padStart(5, "0")}`, { project_id: i % 2 === 0 ? "even" : "odd" }),
    );
    await insert("durable_runs", rows);
    const { runs } = await allPages({ taskId: "t", projectId: "odd", limit: 200 });
    expect(runs).toHaveLength(count / 2);
    expect(new Set(runs.map(({ runId }) => runId)).size).toBe(count / 2);
  });

  it("end early where the texts of a page are many megabytes", async () => {
    const error = JSON.stringify({ name: "Error", message: "x".repeat(900_000) });
    await insert("durable_runs", [runRow("run-0", { error, created_at: AT })]);
    for (let i = 1; i < 12; i += 1)
      await insert("durable_runs", [runRow(`run-${i}`, { error, created_at: AT + i })]);
    const { runs, pages } = await allPages({});
    expect(runs).toHaveLength(12);
    expect(pages.length).toBeGreaterThan(1);
    expect(pages.every((page) => page.runs.length > 0 && page.runs.length <= 5)).toBe(true);
  });
});

describe("a cursor", () => {
  const question: ListRunsOptions = { projectId: "p", limit: 1 };
  const begin = async (): Promise<string> => {
    await insert("durable_runs", [runRow("run-1"), runRow("run-2"), runRow("run-3")]);
    return (await history.list(question)).cursor ?? "";
  };
  const refusal = { code: "invalid_input", field: "cursor" };

  it("goes on with another length of the page", async () => {
    const cursor = await begin();
    const { runs } = await history.list({ ...question, limit: 200, cursor });
    expect(runs.map(({ runId }) => runId)).toEqual(["run-2", "run-1"]);
  });

  it("is refused with another question, and when it was changed in any character", async () => {
    const cursor = await begin();
    expect(cursor).toMatch(/^[\w-]+$/);
    for (const other of [{ projectId: "q" }, { projectId: "p", pass: true }, {}]) {
      await expect(() => history.list({ ...other, cursor })).rejects.toMatchObject(refusal);
    }
    await expect(() => history.stuck({ cursor })).rejects.toMatchObject(refusal);
    for (const bad of [
      "",
      "x",
      "e30",
      `${cursor}!`,
      cursor.slice(0, -4),
      `a${cursor}`,
      "null",
      btoa('["1"]'),
    ]) {
      await expect(() => history.list({ ...question, cursor: bad })).rejects.toMatchObject(refusal);
    }
    for (const bad of [7, null, {}, "x".repeat(10_000)]) {
      await expect(() => history.list({ ...question, cursor: bad as string })).rejects.toMatchObject(refusal);
    }
  });

  it("whose key is of other types is refused", async () => {
    const [version, hash] = JSON.parse(
      atob((await begin()).replaceAll("-", "+").replaceAll("_", "/")),
    ) as unknown[];
    for (const key of [
      [],
      [1],
      ["1", "run"],
      [1.5, "run"],
      [1, 2],
      [1, "run", 3],
      [null, "run"],
      [1, "\ud800"],
    ]) {
      const cursor = btoa(JSON.stringify([version, hash, ...key]));
      await expect(() => history.list({ ...question, cursor })).rejects.toMatchObject(refusal);
    }
  });

  it("cannot be made to lead out of the range that is asked for", async () => {
    await begin();
    const range = { createdTo: iso(AT + 1_000), limit: 1 };
    const { cursor = "" } = await history.list(range);
    const padded = cursor.replaceAll("-", "+").replaceAll("_", "/");
    const [version, hash] = JSON.parse(atob(padded)) as unknown[];
    for (const at of [AT + 1_000, AT + 2_000, Number.MAX_SAFE_INTEGER]) {
      const forged = btoa(JSON.stringify([version, hash, at, "z"])).replaceAll("=", "");
      await expect(() => history.list({ ...range, cursor: forged })).rejects.toMatchObject(refusal);
    }
  });
});

describe("a bad filter", () => {
  it.each<[string, unknown]>([
    ["projectId", ""],
    ["projectId", 7],
    ["scenarioId", "x".repeat(10_000)],
    ["taskId", null],
    ["heldBy", "a\nb"],
    ["status", "paused"],
    ["status", []],
    ["status", ["running", null]],
    ["tags", "a"],
    ["tags", ["a"]],
    ["tags", Object.fromEntries(Array.from({ length: 65 }, (_one, i) => [`k${i}`, "v"]))],
    ["createdFrom", "yesterday"],
    ["createdTo", 1_700_000_000_000],
    ["completedFrom", "2026-02-28T00:00:00"],
    ["createdFrom", "2026-02-31"],
    ["createdTo", "2026-02-30T00:00:00Z"],
    ["completedFrom", "2025-02-29T00:00:00+02:00"],
    ["completedTo", "2026-13-01"],
    ["completedTo", ""],
    ["pass", 1],
    ["minScore", Number.NaN],
    ["maxScore", "1"],
    ["takeoversOver", -1],
    ["takeoversOver", 1.5],
    ["limit", 0],
    ["limit", 201],
    ["projectID", "p"],
    ["offset", 5],
  ])("is refused by its name: %s %j", async (field, value) => {
    const list = () => history.list({ [field]: value });
    await expect(list).rejects.toMatchObject({ code: "invalid_input", field });
    await expect(list).rejects.toThrow(field);
  });

  it("is refused where it is inherited, for not every field of that kind would be found", async () => {
    const projectId = Object.create({ projectId: "p" }) as ListRunsOptions;
    const env = { tags: Object.create({ env: "prod" }) as Record<string, string> };
    await expect(() => history.list(projectId)).rejects.toMatchObject({ field: "projectId" });
    await expect(() => history.list(env)).rejects.toMatchObject({ code: "invalid_input", field: "env" });
  });

  it("of a tag is refused by the name of the tag", async () => {
    const tags = { env: 1 as unknown as string };
    await expect(() => history.list({ tags })).rejects.toMatchObject({
      code: "invalid_input",
      field: "tags.env",
    });
  });
});
