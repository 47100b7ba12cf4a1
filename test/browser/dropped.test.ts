/** Who leaves before the answer does no harm to the others: a browser does it each time that it goes to another page. */
import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { call, newRunId, openBrowser, origin, runPlace, startApproval, visit } from "./visits.ts";

const { hostname, port } = new URL(origin);

let browser: Browser;
// One connection, which a server that ends takes with it.
const watch = new Agent({ keepAlive: true, maxSockets: 1 });

beforeAll(async () => {
  browser = await openBrowser();
  await watched();
});
afterAll(async () => {
  watch.destroy();
  await browser.close();
});

/** Whether the server answers on the connection of the time before. */
async function watched(): Promise<boolean> {
  const asking = request(`${origin}/api/v1/health`, { agent: watch }).end();
  const [response] = (await once(asking, "response")) as [NodeJS.ReadableStream];
  response.resume();
  await once(response, "end");
  return asking.reusedSocket;
}

async function sendAndLeave(text: string, leaves: "at once" | "half-way"): Promise<void> {
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  await once(socket, "connect");
  await new Promise((resolve) => socket.write(text, resolve));
  if (leaves === "half-way") await once(socket, "data");
  socket.resetAndDestroy();
}

function head(line: string, ...headers: string[]): string {
  const auth = `authorization: Bearer ${inject("writer")}`;
  return [`${line} HTTP/1.1`, `host: ${hostname}:${port}`, auth, ...headers, "", ""].join("\r\n");
}

test.each([
  ["a question", head("GET /api/v1/runs"), "at once"],
  ["an answer", head("GET /api/v1/stats"), "half-way"],
  ["a file", head("GET /"), "at once"],
  ["half a body", `${head("POST /api/v1/runs", "content-length: 5000")}{`, "at once"],
  ["no request", "GET / HT", "at once"],
] as const)("the server outlives connections that are dropped after %s", async (_, text, leaves) => {
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(Array.from({ length: 5 }, () => sendAndLeave(text, leaves)));
    expect(await watched()).toBe(true);
  }
});

test("the server outlives pages that are left while they load", async () => {
  const runId = newRunId("left");
  await startApproval(runId, { steps: 1, seconds: 0 });
  const { page, open, close } = await visit(browser, inject("writer"));
  for (let round = 0; round < 10; round += 1) {
    for (const place of ["/runs", "/stats", runPlace(runId)]) {
      await page.goto(`${origin}/?${round}#${place}`, { waitUntil: "commit" });
      // Each time, for a server also closes a connection that it has not heard on for seconds.
      expect(await watched()).toBe(true);
    }
  }
  await open(runPlace(runId));
  await call(`${runPlace(runId)}/events/approve`, { by: "somebody", approved: true });
  await page.locator(".run-head").getByText("completed").waitFor({ timeout: 40_000 });
  await close();
});
