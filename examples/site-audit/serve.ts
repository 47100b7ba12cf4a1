/**
 * Runs an audit within one HTTP request and streams how it goes, one JSON object a line.
 *
 * The answer begins when the run is claimed, so that a refused claim is a plain HTTP error. A client that goes away
 * stops nothing: the platform lets the run go on for a while (`waitUntil`), and whoever asks for the same run id
 * later goes on from what is recorded.
 */
import { codeOf } from "../../src/contract/errors.ts";
import type { DurableRunStore } from "../../src/contract/types.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import type { SiteAuditTools } from "./agent.ts";
import { siteAudit } from "./agent.ts";
import type { Progress } from "./progress.ts";
import { watched } from "./progress.ts";
import type { SiteAuditInput } from "./types.ts";

export interface ServeInput {
  runId: string;
  workerId: string;
  leaseMs: number;
  input: SiteAuditInput;
  store: DurableRunStore;
  tools: SiteAuditTools;
  waitUntil: (work: Promise<unknown>) => void;
}

/** Resolves to the stream once the run is claimed. Rejects with what refused the claim. */
export async function serveAudit(serve: ServeInput): Promise<Response> {
  const { runId, workerId, leaseMs, input, tools } = serve;
  const lines = new LineStream();
  const claimed = Promise.withResolvers<void>();
  const store = watched(serve.store, (progress) => {
    lines.write(progress);
    if (progress.type === "claimed") claimed.resolve();
  });
  const run = runDurable({
    runId,
    workerId,
    leaseMs,
    store,
    manifest: {
      projectId: "site-audit",
      task: { id: "site-audit", intent: "Audit a web site and publish a report" },
      input: { ...input },
      tags: { site: new URL(input.startUrl).host.slice(0, 200) },
    },
    taskFn: siteAudit(input, tools),
  });
  const told = run
    .then(
      ({ result }) => lines.write({ type: "finished", runId, result }),
      (error: unknown) => lines.write({ type: "failed", runId, error: described(error) }),
    )
    .finally(() => lines.end());
  serve.waitUntil(told);
  await Promise.race([claimed.promise, run]);
  return new Response(lines.body, {
    headers: { "content-type": "application/x-ndjson; charset=utf-8", "cache-control": "no-store" },
  });
}

/** An error of the task's own has no code of ours. */
function described(error: unknown): { code: string; message: string } {
  return {
    code: codeOf(error) ?? "task_failed",
    message: error instanceof Error ? error.message : String(error),
  };
}

/** A body that is written line by line, and forgets what is written once nobody reads it. */
class LineStream {
  readonly body: ReadableStream<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor() {
    this.body = new ReadableStream<Uint8Array>({
      start: (controller) => void (this.#controller = controller),
      cancel: () => void (this.#controller = undefined),
    });
  }

  write(progress: Progress): void {
    this.#controller?.enqueue(new TextEncoder().encode(`${JSON.stringify(progress)}\n`));
  }

  end(): void {
    this.#controller?.close();
    this.#controller = undefined;
  }
}
