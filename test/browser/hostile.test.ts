/** What tasks and callers say is shown as text, wherever it stands. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { HOSTILE } from "./hostile-text.ts";
import type { Visit } from "./visits.ts";
import { makeScene, newRunId, openBrowser, runPlace, visit } from "./visits.ts";

let browser: Browser;
const runId = `${newRunId("hostile")}<i id="injected">`;

beforeAll(async () => {
  browser = await openBrowser();
  await makeScene("hostile", runId);
});
afterAll(() => browser.close());

async function visiting(look: (visit: Visit) => Promise<void>): Promise<void> {
  const visited = await visit(browser, inject("writer"));
  await look(visited);
  expect(await visited.page.locator("#injected").count()).toBe(0);
  expect(await visited.page.title()).not.toContain("taken over");
  expect(visited.problems).toEqual([]);
  await visited.close();
}

test("in the list: run id, intent, tags, scenario and error", () =>
  visiting(async ({ page, open }) => {
    await open("/runs?projectId=hostile");
    const row = page.getByRole("row").filter({ has: page.getByRole("link", { name: runId, exact: true }) });
    await row.waitFor();
    expect(await row.getByText(HOSTILE).count()).toBeGreaterThanOrEqual(3);
  }));

test("on the page of a run that failed: intent, tags, input, steps, events and error", () =>
  visiting(async ({ page, open }) => {
    await open(runPlace(runId));
    await page.getByRole("heading", { name: HOSTILE }).waitFor();
    await page
      .getByRole("region", { name: "Error of the run" })
      .getByText(`Error: ${HOSTILE}`, { exact: true })
      .waitFor();
    await page.getByRole("button", { name: HOSTILE, exact: true }).click();
    await page.getByRole("group", { name: "the result of step 0" }).getByText("injected").first().waitFor();
    await page.getByRole("button", { name: "fails" }).click();
    await page.getByRole("region", { name: "Events" }).getByText(HOSTILE).first().waitFor();
  }));

test("on the page of a run that completed: result and outcome", () =>
  visiting(async ({ page, open }) => {
    await open(runPlace(`${runId}-ok`));
    await page.getByRole("region", { name: "Result" }).getByText("injected").waitFor();
    await page.getByRole("region", { name: "Outcome" }).getByText(HOSTILE).first().waitFor();
  }));
