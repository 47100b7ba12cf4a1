/** The pictures of docs/dashboard.md. They are taken each time, and kept with UPDATE_SCREENSHOTS=1. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { makeScene, newRunId, openBrowser, runPlace, startApproval, visit } from "./visits.ts";

const FOLDER = join(import.meta.dirname, "..", "..", "docs", "images");
const MOST_BYTES = 300_000;
const isKept = process.env["UPDATE_SCREENSHOTS"] === "1";
const runId = newRunId("audit");

let browser: Browser;

beforeAll(async () => {
  browser = await openBrowser();
  await makeScene("past", newRunId("night"));
  await makeScene("parked", newRunId("invoice"));
  const letter = { subject: "a letter to the landlord", steps: 1, seconds: 0 };
  await startApproval(newRunId("letter"), letter, { customer: "ann" });
  await makeScene("audit", runId);
});
afterAll(() => browser.close());

const dark = { colorScheme: "dark" } as const;
const narrow = { viewport: { width: 375, height: 812 } } as const;

test.each<[name: string, place: string, awaited: string, options: BrowserContextOptions]>([
  ["dashboard-runs", "/runs", runId, {}],
  ["dashboard-runs-narrow", "/runs", runId, narrow],
  ["dashboard-run", runPlace(runId), "event:approve", {}],
  ["dashboard-run-dark", runPlace(runId), "event:approve", dark],
  ["dashboard-stats", "/stats", "plan the audit", {}],
])("%s", async (name, place, awaited, options) => {
  const { page, problems, open, close } = await visit(browser, inject("writer"), {
    viewport: { width: 1280, height: 880 },
    ...options,
  });
  await open(place);
  await page.getByText(awaited).first().waitFor();
  await page.evaluate("document.fonts.ready");
  const picture = await page.screenshot({ animations: "disabled" });
  expect(picture.byteLength).toBeGreaterThan(10_000);
  expect(picture.byteLength).toBeLessThan(MOST_BYTES);
  expect(problems).toEqual([]);
  if (isKept) {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(join(FOLDER, `${name}.png`), picture);
  }
  await close();
});
