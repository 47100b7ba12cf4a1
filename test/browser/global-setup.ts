/**
 * One Worker for all files: each test makes runs of its own.
 *
 * Owns the folder for temporary files of workerd and Chromium, which leave some behind.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { WorkerServer } from "./server.ts";

declare module "vitest" {
  export interface ProvidedContext {
    origin: string;
    /** May do everything. */
    writer: string;
    /** May read everything. */
    reader: string;
    /** May do everything in a project that has no runs. */
    newcomer: string;
  }
}

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), "runs-browser-"));
  const cleanUp = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  process.once("exit", cleanUp);
  process.env["TMPDIR"] = folder;
  const server = await WorkerServer.start(project.config.root);
  project.provide("origin", server.origin);
  project.provide("writer", server.tokens.writer);
  project.provide("reader", server.tokens.reader);
  project.provide("newcomer", server.tokens.newcomer);
  return async () => {
    const { state } = project.vitest;
    if (state.getCountOfFailedTests() > 0) console.error(`The Worker said last:\n${server.lastLines}`);
    await server.stop();
    cleanUp();
  };
}
