/** The runs that should have gone on. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { makeScene, newRunId, openBrowser, runPlace, visit } from "./visits.ts";

let browser: Browser;

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser.close());

test("where nothing is stuck, it says so", async () => {
  const { page, problems, open, close } = await visit(browser, inject("newcomer"));
  await open("/stuck");
  await page.getByText("Nothing is stuck.").waitFor();
  expect(await page.getByRole("table").count()).toBe(0);
  expect(problems).toEqual([]);
  await close();
});

test("a run whose worker is gone is there, with the reason, until another worker takes it over", async () => {
  const { page, problems, open, close } = await visit(browser, inject("reader"));
  const runId = newRunId("lost");
  await makeScene("lost", runId);
  await open("/stuck");
  const row = page.getByRole("table", { name: "Stuck runs" }).getByRole("row").filter({ hasText: runId });
  await row.getByText("running").waitFor();
  await row.getByText("its worker is gone, and nobody took over (1 h ago)").waitFor();
  await row.getByRole("link", { name: runId }).click();
  await page.getByRole("heading", { name: "Find the way" }).waitFor();
  expect(page.url()).toContain(runPlace(runId));
  await page.goBack();
  await row.waitFor();
  await makeScene("found", runId);
  await row.waitFor({ state: "detached" });
  expect(problems).toEqual([]);
  await close();
});
