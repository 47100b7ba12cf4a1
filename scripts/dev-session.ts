/**
 * What `npm run dev` leaves for `npm run example:runs` to find: where it serves, and a token. The file is the user's alone,
 * git-ignored, and goes when the server does.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface DevSession {
  origin: string;
  token: string;
}

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const FOLDER = join(ROOT, ".wrangler");
const SESSION = join(FOLDER, "dev-session.json");
/** Settings for the Worker: of the token, its hash alone. */
export const SETTINGS = join(FOLDER, "dev-settings.env");

export function writeSession(session: DevSession, tokenEntry: object): void {
  mkdirSync(FOLDER, { recursive: true });
  forgetSession();
  writeFileSync(SESSION, JSON.stringify(session), { mode: 0o600 });
  writeFileSync(SETTINGS, `API_TOKENS='${JSON.stringify([tokenEntry])}'\n`, { mode: 0o600 });
}

/** Throws when no server runs, as far as the file tells. */
export function readSession(): DevSession {
  try {
    return JSON.parse(readFileSync(SESSION, "utf8")) as DevSession;
  } catch {
    throw new Error("`npm run dev` is not running here: start it in another terminal first");
  }
}

export function forgetSession(): void {
  rmSync(SESSION, { force: true });
  rmSync(SETTINGS, { force: true });
}
