/** The way into the dashboard, and out of it. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { newRunId, openBrowser, origin, runPlace, startApproval, visit } from "./visits.ts";

let browser: Browser;

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser.close());

test("whoever has no session is led to the sign-in, and from there to where they wanted to go", async () => {
  const runId = newRunId("wanted");
  await startApproval(runId, { steps: 1, seconds: 0 });
  const { page, problems, close } = await visit(browser);
  await page.goto(`${origin}/#${runPlace(runId)}`);
  await page.getByLabel("Token").fill(inject("writer"));
  expect(new URL(page.url()).pathname).toBe("/login");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Get something approved" }).waitFor();
  expect(page.url()).toBe(`${origin}/#${runPlace(runId)}`);
  expect(problems).toEqual([]);
  await close();
});

test("a wrong token is refused in words, and the right one is taken after it", async () => {
  const { page, problems, close } = await visit(browser);
  await page.goto(`${origin}/login`);
  await page.getByLabel("Token").fill("dr_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  const alert = page.getByRole("alert");
  await alert.filter({ hasText: "not known here" }).waitFor();
  expect(await page.getByLabel("Token").getAttribute("aria-invalid")).toBe("true");
  // The browser itself reports the answer; nothing else is.
  expect(problems).toEqual([expect.stringContaining("401")]);
  await page.getByLabel("Token").fill(inject("reader"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("eve · read only").waitFor();
  await close();
});

test("a link brings its token, which does not stay in the address", async () => {
  const { page, problems, close } = await visit(browser);
  await page.goto(`${origin}/login#token=${inject("writer")}`);
  await page.getByRole("heading", { name: "Runs", exact: true }).waitFor();
  expect(page.url()).not.toContain(inject("writer"));
  await page.goBack();
  expect(page.url()).not.toContain(inject("writer"));
  expect(problems).toEqual([]);
  await close();
});

test("a link that is opened on the sign-in page itself signs in, and leads to where one wanted to go", async () => {
  const { page, problems, close } = await visit(browser);
  await page.goto(`${origin}/#/stats`);
  await page.getByLabel("Token").waitFor();
  await page.evaluate("window.isSamePage = true");
  await page.evaluate("location.hash = '#token=dr_wrong'");
  await page.getByRole("alert").filter({ hasText: "not known here" }).waitFor();
  expect(page.url()).toBe(`${origin}/login`);
  expect(await page.evaluate("window.isSamePage")).toBe(true);
  await page.goto(`${origin}/login#token=${inject("writer")}`);
  await page.getByRole("heading", { name: "Stats", exact: true }).waitFor();
  expect(page.url()).toBe(`${origin}/#/stats`);
  await page.goBack();
  expect(page.url()).not.toContain(inject("writer"));
  expect(problems).toEqual([expect.stringContaining("401")]);
  await close();
});

test("a session that ends under way leads to the sign-in", async () => {
  const { page, open, close } = await visit(browser, inject("writer"));
  await open("/stats");
  await page.context().clearCookies();
  await page.goto(`${origin}/#/stuck`);
  await page.getByLabel("Token").waitFor();
  expect(page.url()).toBe(`${origin}/login#/stuck`);
  await close();
});

test("signing out ends the session", async () => {
  const { page, problems, open, close } = await visit(browser, inject("writer"));
  await open("/runs");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  await page.goto(`${origin}/`);
  await page.getByLabel("Token").waitFor();
  expect(problems).toEqual([]);
  await close();
});
