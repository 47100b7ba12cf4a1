/** The list of runs. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type { Visit } from "./visits.ts";
import { call, makeScene, newRunId, openBrowser, runPlace, startApproval, until, visit } from "./visits.ts";

let browser: Browser;

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser.close());

async function visiting(token: "writer" | "newcomer", look: (visit: Visit) => Promise<void>): Promise<void> {
  const visited = await visit(browser, inject(token));
  await look(visited);
  expect(visited.problems).toEqual([]);
  await visited.close();
}

test("where there are no runs, it says what to do", () =>
  visiting("newcomer", async ({ page, open }) => {
    await open("/");
    await page.getByRole("heading", { name: "No runs yet" }).waitFor();
    await page.getByText("npm run example:runs").waitFor();
    await page.getByRole("main").getByRole("link", { name: "start a run" }).click();
    await page.getByRole("heading", { name: "Start a run" }).waitFor();
  }));

test("it shows runs newest first, and opens one", () =>
  visiting("writer", async ({ page, open }) => {
    const [older, newer] = [newRunId("listed"), newRunId("listed")];
    await startApproval(older, { steps: 1, seconds: 0 });
    await startApproval(newer, { steps: 1, seconds: 0 });
    await open("/runs");
    const ids = page.getByRole("table").getByRole("link");
    await ids.filter({ hasText: older }).waitFor();
    const shown = await ids.allTextContents();
    expect(shown.indexOf(newer)).toBeLessThan(shown.indexOf(older));
    await ids.filter({ hasText: older }).click();
    await page.getByRole("heading", { name: "Get something approved" }).waitFor();
    expect(page.url()).toContain(runPlace(older));
  }));

test("filters narrow it, stay in the address, and can be cleared", () =>
  visiting("writer", async ({ page, open }) => {
    const [kept, cancelled] = [newRunId("filtered"), newRunId("filtered")];
    const tags = { batch: kept };
    await startApproval(kept, { steps: 1, seconds: 0 }, tags);
    await startApproval(cancelled, { steps: 1, seconds: 0 }, tags);
    await call(`${runPlace(cancelled)}/cancel`, {});
    await open("/runs");
    await page.getByText("More filters").click();
    await page.getByLabel("Tag").fill(`batch:${kept}`);
    const ids = page.getByRole("table").getByRole("link");
    await until(async () => (await ids.count()) === 2);
    await page.getByRole("checkbox", { name: "cancelled" }).check();
    await until(async () => (await ids.count()) === 1);
    expect(await ids.allTextContents()).toEqual([cancelled]);
    await page.reload();
    await until(async () => (await ids.count()) === 1);
    expect(await page.getByLabel("Tag").inputValue()).toBe(`batch:${kept}`);
    await page.getByRole("checkbox", { name: "cancelled" }).uncheck();
    await page.getByRole("checkbox", { name: "failed" }).check();
    await page.getByText("No run matches these filters").waitFor();
    await page.getByRole("link", { name: "Clear" }).click();
    await ids.filter({ hasText: kept }).waitFor();
  }));

test("new runs and new statuses appear by themselves, and focus stays where it was", () =>
  visiting("writer", async ({ page, open }) => {
    const [first, second] = [newRunId("live"), newRunId("live")];
    await startApproval(first, { steps: 1, seconds: 0 });
    await open("/runs");
    const link = page.getByRole("link", { name: first });
    await link.focus();
    await startApproval(second, { steps: 1, seconds: 0 });
    await call(`${runPlace(first)}/cancel`, {});
    await page.getByRole("link", { name: second }).waitFor();
    await page.getByRole("row").filter({ hasText: first }).getByText("cancelled").waitFor();
    expect(await page.evaluate("document.activeElement?.textContent")).toBe(first);
  }));

test("older runs are loaded on demand, each once", () =>
  visiting("writer", async ({ page, open }) => {
    const scenario = newRunId("many");
    await makeScene("past", scenario);
    await open(`/runs?scenarioId=${scenario}`);
    const ids = page.getByRole("table").getByRole("link");
    await page.getByRole("button", { name: "Load more" }).click();
    await until(async () => (await ids.count()) === 60);
    expect(new Set(await ids.allTextContents()).size).toBe(60);
    await until(async () => (await page.getByRole("button", { name: "Load more" }).count()) === 0);
  }));

test("a page without a match says so where older runs may have one, and goes on", () =>
  visiting("writer", async ({ page, open }) => {
    const scenario = newRunId("rare");
    await makeScene("rare", scenario);
    const ids = page.getByRole("table").getByRole("link");
    const shown = async (): Promise<string[]> =>
      (await ids.allTextContents()).map((id) => id.slice(scenario.length + 1));

    await open(`/runs?scenarioId=${scenario}&taskId=early`);
    await page.getByText("None of the runs looked at so far match").waitFor();
    expect(await page.getByText("No run matches these filters").count()).toBe(0);
    await page.getByRole("button", { name: "Look further" }).click();
    await until(async () => (await ids.count()) === 3);
    expect(await shown()).toEqual(["2", "1", "0"]);
    expect(await page.getByRole("button", { name: /Look further|Load more/ }).count()).toBe(0);

    await open(`/runs?scenarioId=${scenario}&taskId=both`);
    await until(async () => (await ids.count()) === 2);
    await page.getByRole("button", { name: "Load more" }).click();
    await until(async () => (await ids.count()) === 5);
    expect(await shown()).toEqual(["519", "518", "5", "4", "3"]);
    // The newest page alone is asked for again; what is behind it stays.
    for (const _ of [1, 2]) await page.waitForResponse(/\/api\/v1\/runs\?/);
    expect(await shown()).toEqual(["519", "518", "5", "4", "3"]);
    expect(await page.getByRole("button", { name: /Look further|Load more/ }).count()).toBe(0);
  }));

test("the search opens a run by its id, and says when there is none", async () => {
  const { page, problems, open, close } = await visit(browser, inject("writer"));
  const runId = newRunId("searched");
  await startApproval(runId, { steps: 1, seconds: 0 });
  await open("/runs");
  await page.keyboard.press("/");
  await page.keyboard.type(runId);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Get something approved" }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("no-such-run");
  await page.keyboard.press("Enter");
  await page.getByText("No run has the id “no-such-run”").waitFor();
  for (const problem of problems) expect(problem).toContain("404");
  await close();
});
