/**
 * `npm run example:runs`: starts three runs through the API of the `npm run dev` that is running. One completes, one
 * waits for an approval, one is cancelled. They need no network.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { readSession } from "./dev-session.ts";

/** How long a run may take to be on record. */
const APPEAR_TIMEOUT_MS = 30_000;

async function call(path: string, body?: unknown): Promise<Response> {
  const session = readSession();
  if (session === undefined)
    throw new Error("`npm run dev` is not running here: start it in another terminal first");
  const { origin, token } = session;
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  return fetch(`${origin}/api/v1${path}`, init).catch(() => {
    throw new Error(`nothing answers at ${origin}: is \`npm run dev\` still running?`);
  });
}

async function post<T>(path: string, body: unknown): Promise<T> {
  const response = await call(path, body);
  if (response.ok) return (await response.json()) as T;
  const { code, detail } = (await response.json()) as { code: string; detail: string };
  throw new Error(`POST ${path}: ${code}: ${detail}`);
}

/** Resolves once the run is on record. */
async function start(input: object, tags: Record<string, string>): Promise<string> {
  const { runId } = await post<{ runId: string }>("/runs", { task: "approval", input, tags });
  const deadline = Date.now() + APPEAR_TIMEOUT_MS;
  while (!(await call(`/runs/${runId}`)).ok) {
    if (Date.now() > deadline) throw new Error(`run ${runId} was started, but is not on record yet`);
    await sleep(200);
  }
  return runId;
}

try {
  const release = await start({ subject: "release 1.4", steps: 4, seconds: 1 }, { example: "approved" });
  await post(`/runs/${release}/events/approve`, { by: "the example script", approved: true });
  console.log(`${release}  is approved, and completes in a few seconds`);
  const budget = await start({ subject: "next year's budget", steps: 3, seconds: 2 }, { example: "waiting" });
  console.log(`${budget}  waits for you to approve it, in the dashboard or by an event "approve"`);
  const move = await start(
    { subject: "moving the office", steps: 20, seconds: 60 },
    { example: "cancelled" },
  );
  await post(`/runs/${move}/cancel`, { reason: "nobody wants to move" });
  console.log(`${move}  is cancelled`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
