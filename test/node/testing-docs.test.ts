/** docs/testing.md quotes the example that this project runs. */
import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";

const at = (path: string): Promise<string> => readFile(new URL(`../../${path}`, import.meta.url), "utf8");

it.each(["agent.ts", "agent.test.ts"])(
  "docs/testing.md quotes examples/testing/%s as it is",
  async (name) => {
    const code = (await at(`examples/testing/${name}`))
      .replaceAll('"../../src/index.ts"', '"durable-runs"')
      .replaceAll('"../../src/testing.ts"', '"durable-runs/testing"');
    expect(await at("docs/testing.md")).toContain(`\`\`\`ts\n${code}\`\`\`\n`);
  },
);
