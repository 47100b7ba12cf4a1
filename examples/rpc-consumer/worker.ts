/**
 * A Worker whose runs live in another one: `connectRuns` makes a store of the service binding, and all else is as with any
 * store.
 *
 * Its task packs an order, item by item. It asks for no credentials, so it is for a local machine.
 */
import { connectRuns } from "../../src/cloudflare.ts";
import type { DurableContext } from "../../src/index.ts";
import { DurableRunError, runDurable } from "../../src/index.ts";

interface Env {
  /** The entrypoint RunService of the Worker durable-runs. */
  RUNS: object;
}

/** Short, so that a run whose worker died can soon be taken over. */
const LEASE_MS = 2_000;
/** How long it takes to pack an item. */
const PACK_MS = 250;

const STATUS: Readonly<Record<string, number>> = {
  invalid_input: 400,
  forbidden: 403,
  run_not_found: 404,
  lease_held: 409,
  lease_lost: 409,
  manifest_mismatch: 409,
  store_unavailable: 503,
};

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    try {
      return await answer(request, env);
    } catch (error) {
      const code = error instanceof DurableRunError ? error.code : "failed";
      const message = error instanceof Error ? error.message : String(error);
      return Response.json({ code, message }, { status: STATUS[code] ?? 500 });
    }
  },
};

async function answer(request: Request, env: Env): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/health") return Response.json({ ok: true });
  const [, collection, runId, ...more] = pathname.split("/");
  if (collection !== "runs" || more.length > 0) return new Response("not found\n", { status: 404 });
  const runs = connectRuns(env.RUNS);
  if (runId === undefined) return Response.json(await runs.history.list());

  if (request.method === "POST") {
    const { items = [] } = await request.json<{ items?: string[] }>();
    const { result, record } = await runDurable({
      runId,
      store: runs,
      manifest: {
        projectId: "rpc-consumer",
        task: { id: "pack-order", intent: "Pack the items of an order" },
        input: { items },
      },
      leaseMs: LEASE_MS,
      taskFn: packOrder(items),
    });
    return Response.json({ runId, status: record.status, result });
  }
  // D1 may be a little behind the run's object; `lag` says by how many rows.
  const run = await runs.history.get(runId);
  if (run === undefined) return Response.json({ code: "run_not_found" }, { status: 404 });
  const { steps } = await runs.history.steps(runId);
  return Response.json({ run, steps, lag: await runs.lag(runId) });
}

function packOrder(items: readonly string[]): (ctx: DurableContext) => Promise<string> {
  return async (ctx) => {
    const packed: string[] = [];
    for (const item of items) packed.push(await ctx.step(`pack ${item}`, () => pack(item), { kind: "tool" }));
    return ctx.step("label", async () => `a parcel with ${packed.join(", ")}`);
  };
}

async function pack(item: string): Promise<string> {
  await new Promise((resolve) => setTimeout(resolve, PACK_MS));
  return `${item} (wrapped)`;
}
