/** A run's page: what it shows, live, and what may be done there. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type { Visit } from "./visits.ts";
import { call, makeScene, newRunId, openBrowser, runPlace, startApproval, visit } from "./visits.ts";

let browser: Browser;

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser.close());

async function visiting(token: "writer" | "reader", look: (visit: Visit) => Promise<void>): Promise<void> {
  const visited = await visit(browser, inject(token));
  await look(visited);
  expect(visited.problems).toEqual([]);
  await visited.close();
}

test("a running run is watched to its end without a reload", () =>
  visiting("reader", async ({ page, open }) => {
    const runId = newRunId("watched");
    await startApproval(runId, { subject: "the watched one", steps: 2, seconds: 2 });
    await open(runPlace(runId));
    await page.evaluate("window.isSamePage = true");
    const head = page.locator(".run-head");
    await head.getByText("running").waitFor();
    await page.getByRole("button", { name: "do part 1 of 2" }).waitFor();
    await call(`${runPlace(runId)}/events/approve`, { by: "somebody", approved: true });
    await head.getByText("completed").waitFor({ timeout: 40_000 });
    await page.getByText("✓ passed").waitFor();
    await page.getByRole("button", { name: "record the decision" }).waitFor();
    expect(await page.evaluate("window.isSamePage")).toBe(true);
  }));

test("a waiting run is approved, and goes on", () =>
  visiting("writer", async ({ page, open }) => {
    const runId = newRunId("approved");
    await startApproval(runId, { steps: 1, seconds: 0 });
    await open(runPlace(runId));
    const waits = page.getByRole("region", { name: "Waits for" });
    await waits.getByText("approve", { exact: true }).waitFor();
    await waits.getByRole("button", { name: "Approve…" }).click();
    const dialog = page.getByRole("dialog", { name: "Approve: approve" });
    const payload = dialog.getByLabel("Payload (JSON)");
    expect(JSON.parse(await payload.inputValue())).toEqual({ approved: true, by: "ann" });
    await payload.fill("{ not JSON");
    await dialog.getByRole("button", { name: "Approve" }).click();
    await dialog.getByRole("alert").getByText("No JSON yet").waitFor();
    await payload.fill('{ "approved": true, "by": "the board" }');
    await dialog.getByRole("button", { name: "Approve" }).click();
    await page.locator(".run-head").getByText("completed").waitFor({ timeout: 40_000 });
    await page.getByText("approved by the board").waitFor();
    const events = page.getByRole("region", { name: "Events" });
    await events.getByText('"the board"').waitFor();
  }));

test("any event may be emitted", () =>
  visiting("writer", async ({ page, open }) => {
    const runId = newRunId("emitted");
    await startApproval(runId, { steps: 1, seconds: 60 });
    await open(runPlace(runId));
    for (const said of ["is on record", "An earlier event note stands"]) {
      await page.getByRole("button", { name: "Emit an event…" }).click();
      await page.getByLabel("Key").fill("note");
      await page.getByRole("button", { name: "Emit", exact: true }).click();
      await page.getByRole("status").getByText(said).waitFor();
    }
    await page.getByRole("region", { name: "Events" }).getByText("note", { exact: true }).waitFor();
  }));

test("a run is cancelled after a confirmation, with a reason", () =>
  visiting("writer", async ({ page, open }) => {
    const runId = newRunId("cancelled");
    await startApproval(runId, { steps: 1, seconds: 60 });
    await open(runPlace(runId));
    await page.getByRole("button", { name: "Cancel…" }).click();
    const dialog = page.getByRole("dialog", { name: "Cancel this run?" });
    await dialog.getByRole("button", { name: "Back" }).click();
    await dialog.waitFor({ state: "hidden" });
    expect(await page.evaluate("document.activeElement?.textContent")).toBe("Cancel…");
    await page.getByRole("button", { name: "Cancel…" }).click();
    await dialog.getByLabel("Reason (optional)").fill("asked by mistake");
    await page.keyboard.press("Enter");
    await page.locator(".run-head").getByText("cancelled").waitFor();
    await page.getByRole("region", { name: "Error of the run" }).getByText("asked by mistake").waitFor();
    expect(await page.getByRole("button", { name: "Cancel…" }).count()).toBe(0);
  }));

test("a step in doubt is resolved", () =>
  visiting("writer", async ({ page, open }) => {
    const runId = newRunId("parked");
    await makeScene("parked", runId);
    await open(runPlace(runId));
    await page.locator(".run-head").getByText("suspended").waitFor();
    await page.getByRole("region", { name: "Waits for" }).getByRole("button", { name: "Resolve…" }).click();
    const dialog = page.getByRole("dialog", { name: "Resolve step 0" });
    await dialog.getByLabel("Result (JSON)").fill('"paid by hand"');
    await dialog.getByRole("button", { name: "Resolve", exact: true }).click();
    await page.locator(".run-head").getByText("pending").waitFor();
    await page.getByRole("button", { name: "pay" }).click();
    await page.getByText('"paid by hand"').waitFor();
  }));

test("a step opens to its hash, attempts, worker, result and earlier error", () =>
  visiting("reader", async ({ page, open }) => {
    const runId = newRunId("opened");
    await makeScene("audit", runId);
    await open(runPlace(runId));
    await page.getByRole("region", { name: "Waits for" }).getByText("approve", { exact: true }).waitFor();
    const row = (name: string) => page.getByRole("row").filter({ has: page.getByRole("button", { name }) });
    await row("fetch reference").getByText("reference", { exact: true }).waitFor();
    await page.getByRole("button", { name: "read the sitemap" }).click();
    await page.getByText(/^[0-9a-f]{64}$/).waitFor();
    await page.getByText("42", { exact: true }).waitFor();
    await page.getByRole("button", { name: "fetch reference" }).click();
    await page.getByText("Error: 503 from docs.example.org", { exact: true }).waitFor();
    await page.getByText("3/reference/0").waitFor();
    expect(await row("event:approve").getByText("waiting").count()).toBe(1);
  }));

test("whoever may only read sees no button that changes something", () =>
  visiting("reader", async ({ page, open }) => {
    const runId = newRunId("read");
    await startApproval(runId, { steps: 1, seconds: 0 });
    await open(runPlace(runId));
    await page.getByRole("region", { name: "Waits for" }).waitFor();
    expect(await page.getByRole("button", { name: /Approve|Emit|Cancel/ }).count()).toBe(0);
    await open("/start");
    await page.getByText("You may read, and start nothing.").waitFor();
  }));

test("the lag is asked for on demand", () =>
  visiting("reader", async ({ page, open }) => {
    const runId = newRunId("lag");
    await startApproval(runId, { steps: 1, seconds: 60 });
    await open(runPlace(runId));
    await page.getByRole("button", { name: "ask now" }).click();
    await page.getByText("0 rows behind").waitFor();
  }));

test("a run is started, with its input, id and tags, once they are as they must be", async () => {
  const { page, problems, open, close } = await visit(browser, inject("writer"));
  const runId = newRunId("started");
  await open("/start");
  await page.getByLabel("Task").selectOption("approval");
  await page.getByLabel("Run id").fill("no/../id");
  await page.getByLabel("Tags").fill("from: here, by:ann");
  const start = page.getByRole("button", { name: "Start", exact: true });
  for (const [label, text, refusal] of [
    ["Input (JSON)", "{", "Input: No JSON yet"],
    ["Input (JSON)", '{ "steps": 1, "seconds": 0 }', "runId must be"],
    ["Run id", runId, undefined],
  ] as const) {
    await page.getByLabel(label).fill(text);
    await start.click();
    if (refusal !== undefined) await page.getByRole("alert").getByText(refusal).waitFor();
  }
  await page.getByRole("heading", { name: "Get something approved" }).waitFor({ timeout: 30_000 });
  await page.getByText("from:here").waitFor();
  // Chromium itself reports an answer that is an error, and nothing else is.
  for (const problem of problems) expect(problem).toMatch(/status of 40[04]/);
  await close();
});

test("a run of hundreds of steps shows all of them, and what is under way", () =>
  visiting("reader", async ({ page, open }) => {
    const runId = newRunId("long");
    await makeScene("long", runId);
    await open(runPlace(runId));
    await page.getByText("Now: page 249").waitFor();
    expect(await page.getByRole("button", { name: /^page \d+$/ }).count()).toBe(250);
  }));
