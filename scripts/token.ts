/**
 * `npm run token -- --name <name> --access read|write [--project <id>]`: a new token, and the entry of `API_TOKENS` that
 * lets it in. Nothing is stored.
 */
import { parseArgs } from "node:util";
import { newToken } from "../src/http/tokens.ts";

const USAGE = `npm run token -- --name <name> --access read|write [--project <project id>]

Prints a new token, and its entry for the secret API_TOKENS (docs/security.md).`;

try {
  const { values } = parseArgs({
    options: {
      name: { type: "string" },
      access: { type: "string" },
      project: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) console.log(USAGE);
  else print(values);
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
  process.exitCode = 2;
}

function print({ name, access, project }: { name?: string; access?: string; project?: string }): void {
  if (name === undefined || (access !== "read" && access !== "write"))
    throw new Error("--name and --access are needed; --access is read or write");
  const { token, entry } = newToken({ name, access, ...(project !== undefined && { projectId: project }) });
  console.log(`token, to be handed over and kept nowhere else:\n  ${token}\n`);
  console.log(
    `its entry in the array API_TOKENS (npx wrangler secret put API_TOKENS):\n  ${JSON.stringify(entry)}`,
  );
}
