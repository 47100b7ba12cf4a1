/** One Worker for all files: each test makes runs of its own. */
import type { TestProject } from "vitest/node";
import { DevServer } from "./server.ts";

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
  const server = await DevServer.start(project.config.root);
  project.provide("origin", server.origin);
  project.provide("writer", server.tokens.writer);
  project.provide("reader", server.tokens.reader);
  project.provide("newcomer", server.tokens.newcomer);
  return () => server.stop();
}
