/** Keyboard, narrow screens, colours and names: the dashboard for everybody. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { LOOKS } from "./looks.ts";
import { makeScene, newRunId, openBrowser, runPlace, startApproval, visit } from "./visits.ts";

let browser: Browser;
const runId = newRunId("shown");

beforeAll(async () => {
  browser = await openBrowser();
  await makeScene("audit", runId);
  await makeScene("past", newRunId("past"));
});
afterAll(() => browser.close());

const PLACES = ["/runs", runPlace(runId), "/stats", "/stuck", "/start", "/nowhere"];

test.each(PLACES)("at 375 px, %s needs no sideways scrolling", async (place) => {
  for (const colorScheme of ["light", "dark"] as const) {
    const { page, problems, open, close } = await visit(browser, inject("writer"), {
      viewport: { width: 375, height: 812 },
      colorScheme,
    });
    await open(place);
    for (const button of await page.locator("[data-row][aria-expanded]").all()) await button.click();
    expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBe(0);
    expect(problems).toEqual([]);
    await close();
  }
});

test.each(["light", "dark"] as const)("texts stand out from their ground, in %s", async (colorScheme) => {
  const { page, open, close } = await visit(browser, inject("writer"), { colorScheme });
  for (const place of PLACES) {
    await open(place);
    expect({ place, faint: await page.evaluate(LOOKS.faintTexts) }).toEqual({ place, faint: [] });
  }
  await close();
});

test("every control has a name, every id is there once, every page one h1", async () => {
  const { page, open, close } = await visit(browser, inject("writer"));
  for (const place of PLACES) {
    await open(place);
    expect({ place, flaws: await page.evaluate(LOOKS.flaws) }).toEqual({ place, flaws: [] });
  }
  await close();
});

test("a run is found, opened, approved and left by keyboard alone", async () => {
  const { page, problems, open, close } = await visit(browser, inject("writer"));
  const focused = (): Promise<unknown> => page.evaluate("document.activeElement?.textContent");
  const mine = newRunId("by-keyboard");
  await startApproval(mine, { steps: 1, seconds: 0 });
  await open("/runs");
  await page.getByRole("link", { name: mine }).waitFor();
  await page.keyboard.press("Tab");
  expect(await focused()).toBe("Skip to the content");
  await page.keyboard.press("Enter");
  expect(await page.evaluate("document.activeElement?.id")).toBe("main");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  expect(await focused()).toBe(mine);
  await page.keyboard.press("Enter");
  const approve = page.getByRole("button", { name: "Approve…" });
  await approve.waitFor();
  for (let i = 0; i < 30 && (await focused()) !== "Approve…"; i += 1) await page.keyboard.press("Tab");
  expect(await page.evaluate(LOOKS.focusIsVisible)).toBe(true);
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  expect(await focused()).toBe("Approve…");
  await page.keyboard.press("Enter");
  await dialog.getByLabel("Key").focus();
  await page.keyboard.press("Enter");
  await page.locator(".run-head").getByText("completed").waitFor({ timeout: 40_000 });
  expect(problems).toEqual([]);
  await close();
});

test("statistics are drawn, and told as numbers too", async () => {
  const { page, problems, open, close } = await visit(browser, inject("reader"));
  await open("/stats");
  const chart = page.getByRole("img", { name: /runs ended: \d+ completed/ });
  await chart.locator("canvas").waitFor();
  await page.getByRole("rowheader", { name: "plan the audit" }).waitFor();
  await page.getByText("As a table").first().click();
  const numbers = page.getByRole("region", { name: "The numbers of the chart" }).first();
  expect(await numbers.getByRole("row").count()).toBeGreaterThan(12);
  expect(problems).toEqual([]);
  await close();
});

test("who asks for less motion gets none", async () => {
  const { page, open, close } = await visit(browser, inject("reader"), { reducedMotion: "reduce" });
  await open("/runs");
  expect(await page.evaluate(LOOKS.movingThings)).toEqual([]);
  await close();
});
