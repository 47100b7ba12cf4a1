/**
 * The local Cloudflare runtime as the demo drives it: the Worker of this repository, with fresh storage and a token of its
 * own, and the settings of a model if there are any.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { newToken } from "../../../src/http/tokens.ts";
import { LocalWorkers, newFolder, removeFolder } from "../../local/local-workers.ts";

const MODEL_SETTINGS = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"];

export interface Runtime {
  readonly origin: string;
  readonly workers: LocalWorkers;
  /** Lets its bearer in, and ends with the demo. */
  readonly token: string;
  readonly folder: string;
  /** Kills what still runs and removes every file. Safe to call at any time, and twice. */
  cleanUp(): void;
}

/** Nothing runs yet. */
export async function prepareRuntime(): Promise<Runtime> {
  const folder = newFolder("durable-runs-demo-");
  const { token, entry } = newToken({ name: "demo", access: "write" });
  const settings = join(folder, "settings.env");
  const lines = `${modelSettings()}\nAPI_TOKENS='${JSON.stringify([entry])}'\n`;
  writeFileSync(settings, lines, { mode: 0o600 });
  const workers = await LocalWorkers.prepare({
    configs: ["wrangler.toml"],
    folder,
    healthPath: "/api/v1/health",
    settings,
    env: environmentWithoutModel(),
  });
  const cleanUp = (): void => {
    workers.cleanUp();
    removeFolder(folder);
  };
  return { origin: workers.origin, workers, token, folder, cleanUp };
}

/** In a file that only the user can read: arguments of a process are seen by everybody on the machine. */
function modelSettings(): string {
  return MODEL_SETTINGS.flatMap((name) => {
    const value = process.env[name];
    return value ? [`${name}=${quoted(name, value)}\n`] : [];
  }).join("");
}

/** As dotenv reads it: no escapes but for "$", and quotes of a sort that the value does not have. */
function quoted(name: string, value: string): string {
  const quote = ["'", '"', "`"].find((mark) => !value.includes(mark));
  if (quote === undefined || /[\r\n]/.test(value))
    throw new Error(`${name} has quotes or line breaks that cannot be passed on`);
  return quote + value.replaceAll("$", "\\$") + quote;
}

function environmentWithoutModel(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of MODEL_SETTINGS) delete env[name];
  return env;
}
