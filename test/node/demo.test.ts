/** The demo's own parts: its proof must be able to fail, its page server to be trusted, its kill to be complete. */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { parseOptions, UsageError } from "../../examples/site-audit/demo/args.ts";
import type { DocsSite, Visit } from "../../examples/site-audit/demo/docs-site.ts";
import { startDocsSite } from "../../examples/site-audit/demo/docs-site.ts";
import { renderPage } from "../../examples/site-audit/demo/markdown.ts";
import { groupIsGone, groupMembers, signalGroup } from "../../examples/local/processes.ts";
import {
  proveFromLog,
  proveFromRecord,
  proveNothingLost,
  recordedPaths,
} from "../../examples/site-audit/demo/proof.ts";
import type { StepRecord } from "../../src/contract/types.ts";

describe("the proof", () => {
  const killedAt = 1_000;
  const before = [visit("/a", 100), visit("/b", 200)];

  it("holds when only what was not recorded is fetched again", () => {
    const { pages, violations } = proveFromLog(
      [...before, visit("/b", 1_500), visit("/c", 1_600)],
      killedAt,
      ["/a"],
    );
    expect(violations).toEqual([]);
    expect(pages).toContainEqual({ path: "/b", recorded: false, getsBefore: 1, getsAfter: 1 });
  });

  it("fails when a recorded page is fetched again after the kill", () => {
    const { violations } = proveFromLog([...before, visit("/a", 1_500)], killedAt, ["/a", "/b"]);
    expect(violations).toEqual(["/a was recorded before the kill, and fetched 1 more times after it"]);
  });

  it("fails when a recorded page was fetched twice before the kill, or never", () => {
    expect(proveFromLog([...before, visit("/a", 300)], killedAt, ["/a"]).violations).toHaveLength(1);
    expect(proveFromLog([], killedAt, ["/a"]).violations).toHaveLength(1);
  });

  it("does not count HEAD, which asks whether a page is there", () => {
    expect(proveFromLog([...before, visit("/a", 1_500, "HEAD")], killedAt, ["/a"]).violations).toEqual([]);
  });

  it("fails when a completed step changed, or an acknowledged one is gone", () => {
    const kept = step(0);
    expect(proveFromRecord([kept], [kept])).toEqual([]);
    for (const change of [{ attempts: 2 }, { workerId: "w2" }, { completedAt: "later" }]) {
      expect(proveFromRecord([kept], [{ ...kept, ...change }])).toHaveLength(1);
    }
    expect(proveFromRecord([kept], [])).toHaveLength(1);
    expect(proveNothingLost([0, 1], [kept])).toEqual(["step 1 was acknowledged, and is not on record"]);
  });

  it("takes the recorded pages from the intents of completed fetches", () => {
    const steps = [
      step(0),
      step(1, { intent: "fetch /%C3%A9" }),
      step(2, { intent: "fetch /x", status: "running" }),
    ];
    expect(recordedPaths([...steps, step(3, { kind: "logic", intent: "fetch /no" })])).toEqual(["/p", "/é"]);
  });
});

describe("the page server", () => {
  let site: DocsSite;
  let root: string;
  afterEach(async () => {
    await site.close();
    await rm(root, { recursive: true });
  });

  it("serves README and docs as pages, other files as text, and nothing hidden or outside", async () => {
    root = await mkdtemp(join(tmpdir(), "durable-runs-test-"));
    await mkdir(join(root, "docs", "decisions"), { recursive: true });
    await mkdir(join(root, "src"));
    await writeFile(join(root, "README.md"), "# Read me\n\n[d](docs/d.md)");
    await writeFile(join(root, "docs", "decisions", "0001-x.md"), "# X");
    await writeFile(join(root, "src", "a.ts"), "export {};");
    await writeFile(join(root, ".env"), "SECRET=1");
    site = await startDocsSite(root);
    const { origin } = new URL(site.url);
    const get = async (path: string): Promise<[number, string | null]> => {
      const response = await fetch(origin + path);
      await response.text();
      return [response.status, response.headers.get("content-type")];
    };
    expect(site.pageCount).toBe(2);
    expect(await get("/")).toEqual([200, "text/html; charset=utf-8"]);
    expect(await get("/docs/decisions/0001-x.md")).toEqual([200, "text/html; charset=utf-8"]);
    expect(await get("/src/a.ts")).toEqual([200, "text/plain; charset=utf-8"]);
    expect(await get("/docs/d.md")).toEqual([404, "text/plain; charset=utf-8"]);
    for (const path of ["/.env", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/node_modules/x"]) {
      expect((await get(path))[0]).toBe(404);
    }
    expect(site.visits.filter(({ path }) => path === "/src/a.ts")).toMatchObject([{ method: "GET" }]);
    expect(site.published()).toBeUndefined();
    await fetch(site.publishUrl, { method: "PUT", body: "# Report" });
    expect(site.published()).toBe("# Report");
  });
});

describe("rendering", () => {
  it("gives headings the ids that GitHub gives, each once", () => {
    const html = renderPage("# A `b` & C!\n\n## Same\n\n## Same\n\n## Über_uns 2.0", "t", []);
    expect([...html.matchAll(/<h\d id="([^"]*)"/g)].map((match) => match[1])).toEqual([
      "a-b--c",
      "same",
      "same-1",
      "über_uns-20",
    ]);
  });
});

describe("processes", () => {
  it("are killed as a group, children included", async () => {
    const script =
      'require("node:child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"]); setInterval(() => {}, 1e6)';
    const parent = spawn(process.execPath, ["-e", script], { detached: true, stdio: "ignore" });
    const group = parent.pid ?? 0;
    await expect.poll(async () => (await groupMembers(group)).length).toBe(2);
    expect(signalGroup(group, "SIGKILL")).toBe(true);
    expect(await groupIsGone(group, 5_000)).toBe(true);
    expect(signalGroup(2 ** 22 + 1, "SIGKILL")).toBe(false);
  });
});

describe("options", () => {
  it("have defaults", () => {
    expect(parseOptions([])).toEqual({ kill: true, maxPages: 12, checkExternal: false });
    expect(parseOptions(["--help"])).toBe("help");
    expect(parseOptions(["--url", "https://a.test", "--no-kill", "--max-pages", "3"])).toEqual({
      url: "https://a.test/",
      kill: false,
      maxPages: 3,
      checkExternal: false,
    });
  });

  it.each([["--max-pages", "0"], ["--max-pages", "x"], ["--url", "ftp://a"], ["--nope"], ["extra"]])(
    "refuse %s %s",
    (...args) => {
      expect(() => parseOptions(args)).toThrow(UsageError);
    },
  );
});

function visit(path: string, at: number, method = "GET"): Visit {
  return { path, method, at, answeredAt: at + 1 };
}

function step(stepIndex: number, change: Partial<StepRecord> = {}): StepRecord {
  return {
    runId: "r",
    stepIndex,
    intent: "fetch /p",
    kind: "tool",
    inputHash: "",
    status: "completed",
    attempts: 1,
    completedAt: "then",
    workerId: "w1",
    ...change,
  };
}
