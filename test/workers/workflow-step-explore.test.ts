import { introspectWorkflowInstance } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { ScriptedWorkflow } from "./worker.ts";

function show(e: unknown) {
  const x = e as Error & Record<string, unknown>;
  return { name: x.name, message: x.message, ctor: x.constructor?.name, own: Object.fromEntries(Object.entries(x)), str: String(e), isErr: e instanceof Error };
}
async function tryIt(log: unknown[], what: string, p: () => Promise<unknown>) {
  try { log.push([what, await p()]); } catch (e) { log.push([what, show(e)]); }
}

test("explore", async () => {
  const runs: unknown[][] = [];
  ScriptedWorkflow.scripts.set("x", async (step, id) => {
    const log: unknown[] = [];
    runs.push(log);
    const no = { retries: { limit: 0, delay: 0 } } as const;
    const custom = Object.assign(new Error("cust"), { code: "C", name: "CustomError" });
    await tryIt(log, "custom", () => step.do("custom", no, async () => { throw custom; }));
    await tryIt(log, "plain", () => step.do("plain", no, async () => { throw new Error("Foo: bar"); }));
    await tryIt(log, "type", () => step.do("type", no, async () => { throw new TypeError("tt"); }));
    await tryIt(log, "string", () => step.do("string", no, async () => { throw "str"; }));
    await tryIt(log, "obj", () => step.do("obj", no, async () => { throw {a: 1}; }));
    await tryIt(log, "dom", () => step.do("dom", no, async () => { throw new DOMException("dd", "AbortError"); }));
    await tryIt(log, "multi", () => step.do("multi", no, async () => { throw Object.assign(new Error("line 1\nline 2: ü 🙂"), {name: "A B: C"}); }));
    await tryIt(log, "nonretry", () => step.do("nonretry", async () => { log.push("ran nonretry"); throw Object.assign(new Error("nr"), {name: "NonRetryableError"}); }));
    await tryIt(log, "timeout", () => step.do("timeout", {timeout: 20, retries: no.retries}, () => new Promise(() => {})));
    await tryIt(log, "wait", () => step.waitForEvent("wait", { type: "t", timeout: "0.05 seconds" as "1 second" }));
    await tryIt(log, "wait0", () => step.waitForEvent("wait0", { type: "t", timeout: "0 seconds" }));
    await tryIt(log, "proto", () => step.do("proto", async () => JSON.parse('{"__proto__":{"a":1},"u":null}') as {u: null}));
    await tryIt(log, "undef", () => step.do("undef", async () => undefined));
    await tryIt(log, "longname", () => step.do("x".repeat(257), async () => 1));
    await tryIt(log, "last", () => step.do("last", async () => 1));
    return log;
  });
  await using instance = await introspectWorkflowInstance(env.SCRIPTED, "i1");
  const handle = await env.SCRIPTED.create({ id: "i1", params: "x" });
  await instance.waitForStatus("complete");
  console.log(JSON.stringify(runs[0], null, 1));
  await handle.restart({ from: { name: "last" } });
  await instance.waitForStatus("complete");
  console.log(runs.length);
  for (let i = 0; i < (runs[0]?.length ?? 0); i++) if (JSON.stringify(runs[0]?.[i]) !== JSON.stringify(runs[1]?.[i])) console.log("DIFF", JSON.stringify(runs[0]?.[i]), JSON.stringify(runs[1]?.[i]));
  expect(1).toBe(1);
});
