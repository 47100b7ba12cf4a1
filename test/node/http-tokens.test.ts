/** `npm run token`, and what it prints: the entry lets the token in, and nothing else. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { newToken, parseTokens } from "../../src/http/tokens.ts";

const ROOT = join(import.meta.dirname, "..", "..");

describe("npm run token", () => {
  const run = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)(process.execPath, [join(ROOT, "scripts", "token.ts"), ...args])).stdout;

  it("prints a token and its entry", async () => {
    const printed = await run("--name", "ci", "--access", "read", "--project", "alpha");
    const token = /dr_[\w-]{43}/.exec(printed)?.[0] ?? "";
    const entry = /\{.*\}/.exec(printed)?.[0] ?? "";
    expect(entry).not.toContain(token);
    expect(parseTokens(`[${entry}]`).find(token)).toEqual({ name: "ci", access: "read", projectId: "alpha" });
    expect(await run("--name", "ci", "--access", "read")).not.toContain(token);
  });

  it.each([
    [["--name", "ci"]],
    [["--name", "ci", "--access", "all"]],
    [["--nope"]],
    [["--name", "", "--access", "read"]],
  ])("refuses %j", async (args) => {
    await expect(run(...args)).rejects.toMatchObject({ code: 2, stdout: "" });
  });
});

describe("a token", () => {
  it("is another one each time, and only itself", () => {
    const tokens = Array.from({ length: 100 }, () => newToken({ name: "n", access: "read" }));
    expect(new Set(tokens.map(({ token }) => token)).size).toBe(100);
    const book = parseTokens(JSON.stringify(tokens.slice(1).map(({ entry }) => entry)));
    expect(book.find(tokens[0]?.token ?? "")).toBeUndefined();
    expect(book.find(tokens[99]?.token ?? "")).toBeDefined();
    expect(book.find("")).toBeUndefined();
    expect(book.find("x".repeat(513))).toBeUndefined();
  });
});
