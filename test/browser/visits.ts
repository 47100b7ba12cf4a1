/**
 * A browser, and people who visit the dashboard in it.
 *
 * Owns what a page must never do, whatever the test is about: report a violation of its content security policy, an
 * error in its console, or an exception.
 */
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { inject } from "vitest";

export const origin = inject("origin");

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM_PATH"] ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-background-networking"],
  });
}

export interface Visit {
  page: Page;
  /** What the pages reported so far. */
  problems: string[];
  /** Opens a place of the dashboard, such as "/runs/run-1", and waits until it has loaded. */
  open: (place: string) => Promise<void>;
  close: () => Promise<void>;
}

/** In a context of its own. @param token whose session it has. Without: nobody's. */
export async function visit(
  browser: Browser,
  token?: string,
  options: BrowserContextOptions = {},
): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(15_000);
  if (token !== undefined) {
    const response = await context.request.post(`${origin}/login`, { data: { token } });
    if (!response.ok()) throw new Error(`/login answered ${response.status()}`);
  }
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  await page.addInitScript(
    "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective, e.blockedURI))",
  );
  const open = async (place: string): Promise<void> => {
    await page.goto(`${origin}/#${place}`);
    await page.locator("main h1").waitFor();
    await page.getByText("Loading…").first().waitFor({ state: "hidden" });
  };
  return { page, problems, open, close: () => context.close() };
}

export function runPlace(runId: string): string {
  return `/runs/${encodeURIComponent(runId)}`;
}

let runs = 0;

export function newRunId(name: string): string {
  runs += 1;
  return `${name}-${Date.now().toString(36)}-${runs}`;
}

/** Makes a run that no registered task makes: see scenes.ts. */
export async function makeScene(name: string, runId: string): Promise<void> {
  for (let part = 0, status = 206; status === 206; part += 1) {
    const response = await fetch(`${origin}/scenes/${name}/${encodeURIComponent(runId)}/${part}`, {
      method: "POST",
    });
    if (!response.ok) throw new Error(`scene ${name}: ${response.status} ${await response.text()}`);
    status = response.status;
  }
}

/** Calls the API as the writer. */
export async function call(path: string, body?: unknown): Promise<unknown> {
  const headers = { authorization: `Bearer ${inject("writer")}`, "content-type": "application/json" };
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(`${origin}/api/v1${path}`, init);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** A run of the example task, on record. */
export async function startApproval(
  runId: string,
  input: object,
  tags?: Record<string, string>,
): Promise<void> {
  await call("/runs", { task: "approval", runId, input, ...(tags !== undefined && { tags }) });
  await until(async () => (await fetch(`${origin}/api/v1${runPlace(runId)}`, asWriter())).ok);
}

export async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error("it did not come to pass in 20 s");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function asWriter(): RequestInit {
  return { headers: { authorization: `Bearer ${inject("writer")}` } };
}
