/**
 * Canonical JSON, hashes and ids. Every hash is a literal, made outside this project (sha256sum), so that Node and
 * Workers are held to the same bytes.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "../src/contract/limits.ts";
import type { DurableRunManifest } from "../src/contract/types.ts";
import {
  canonicalHash,
  canonicalJson,
  deriveWorkerId,
  manifestHash,
  newRequestId,
  newRunId,
  stepId,
} from "../src/identity.ts";

/** RFC 8785, section 3.2.2. */
const RFC_EXAMPLE: unknown = JSON.parse(String.raw`{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`);

/** Section 3.2.3. */
const RFC_KEYS = {
  "\u20ac": "Euro Sign",
  "\r": "Carriage Return",
  "\ufb33": "Hebrew Letter Dalet With Dagesh",
  "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face",
  "\u0080": "Control",
  "\u00f6": "Latin Small Letter O With Diaeresis",
};

describe("canonical JSON (RFC 8785)", () => {
  test("the example of section 3.2.2 becomes the bytes of section 3.2.4", () => {
    expect(hex(canonicalJson(RFC_EXAMPLE))).toBe(
      "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e333333" +
        "333333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75303030665c6e4127425c" +
        "225c5c5c5c5c222f227d",
    );
  });

  test("keys are sorted by UTF-16 code units: an emoji comes before a Hebrew letter (section 3.2.3)", () => {
    expect([...canonicalJson(RFC_KEYS).matchAll(/:"([^"]+)"/g)].map((match) => match[1])).toEqual([
      "Carriage Return",
      "One",
      "Control",
      "Latin Small Letter O With Diaeresis",
      "Euro Sign",
      "Emoji: Grinning Face",
      "Hebrew Letter Dalet With Dagesh",
    ]);
  });

  test("a key that begins another comes first, and upper case before lower", () => {
    expect(canonicalJson({ b: 1, ab: 2, a: 3, B: 4, "": 5, "10": 6, "9": 7 })).toBe(
      '{"":5,"10":6,"9":7,"B":4,"a":3,"ab":2,"b":1}',
    );
  });

  // Appendix B: IEEE 754 bits and the text that they become.
  test.each([
    ["0000000000000000", "0"],
    ["8000000000000000", "0"],
    ["0000000000000001", "5e-324"],
    ["8000000000000001", "-5e-324"],
    ["7fefffffffffffff", "1.7976931348623157e+308"],
    ["ffefffffffffffff", "-1.7976931348623157e+308"],
    ["4340000000000000", "9007199254740992"],
    ["c340000000000000", "-9007199254740992"],
    ["4430000000000000", "295147905179352830000"],
    ["44b52d02c7e14af5", "9.999999999999997e+22"],
    ["44b52d02c7e14af6", "1e+23"],
    ["44b52d02c7e14af7", "1.0000000000000001e+23"],
    ["444b1ae4d6e2ef4e", "999999999999999700000"],
    ["444b1ae4d6e2ef4f", "999999999999999900000"],
    ["444b1ae4d6e2ef50", "1e+21"],
    ["3eb0c6f7a0b5ed8c", "9.999999999999997e-7"],
    ["3eb0c6f7a0b5ed8d", "0.000001"],
    ["41b3de4355555553", "333333333.3333332"],
    ["41b3de4355555554", "333333333.33333325"],
    ["41b3de4355555555", "333333333.3333333"],
    ["41b3de4355555556", "333333333.3333334"],
    ["41b3de4355555557", "333333333.33333343"],
    ["becbf647612f3696", "-0.0000033333333333333333"],
    ["43143ff3c1cb0959", "1424953923781206.2"],
  ])("the double %s is %s (appendix B)", (bits, text) => {
    expect(canonicalJson(doubleOf(bits))).toBe(text);
  });

  test.each([
    ["1e21", "1e+21"],
    ["1e-7", "1e-7"],
    ["-0", "0"],
    ["9007199254740993", "9007199254740992"],
    ["333333333.33333329", "333333333.3333333"],
    ["4.50", "4.5"],
  ])("the number %s is written as ECMAScript writes it", (source, text) => {
    expect(canonicalJson([JSON.parse(source)])).toBe(`[${text}]`);
  });

  test("strings are escaped as section 3.2.2.2 says: short forms, \\u00xx in lower case, all else as it is", () => {
    expect(canonicalJson('\b\t\n\f\r"\\/\u0000\u001f\u007f\u2028é€😀')).toBe(
      '"\\b\\t\\n\\f\\r\\"\\\\/\\u0000\\u001f\u007f\u2028é€😀"',
    );
  });

  test("a property that is undefined is left out", () => {
    expect(canonicalJson({ b: undefined, a: { c: undefined } })).toBe('{"a":{}}');
  });

  test("a Date counts as the string that its toJSON gives", () => {
    const date = new Date(Date.UTC(2026, 0, 31, 12, 30));
    expect(canonicalJson({ at: date })).toBe('{"at":"2026-01-31T12:30:00.000Z"}');
    expect(canonicalHash(date)).toBe(canonicalHash("2026-01-31T12:30:00.000Z"));
  });

  test("a key __proto__ is data", () => {
    const parsed: unknown = JSON.parse('{"__proto__":{"b":1},"a":2}');
    expect(canonicalJson(parsed)).toBe('{"__proto__":{"b":1},"a":2}');
  });

  test("says the same as JSON of any JSON value", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
      { numRuns: 500 },
    );
  });

  test("does not depend on the order of keys", () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ stringUnit: "binary", maxDepth: 4 }),
        fc.infiniteStream(fc.nat()),
        (value, random) => {
          expect(canonicalHash(shuffled(value, random))).toBe(canonicalHash(value));
        },
      ),
      { numRuns: 500 },
    );
    expect(canonicalJson({ a: 1, b: { c: 2, d: 3 } })).toBe(canonicalJson({ b: { d: 3, c: 2 }, a: 1 }));
  });

  test("tells arrays of another order apart", () => {
    expect(canonicalHash([1, 2])).not.toBe(canonicalHash([2, 1]));
  });
});

class Account {
  readonly id = 7;
}

const cycle: { list: unknown[] } = { list: [0] };
cycle.list.push({ back: cycle });

describe("what JSON cannot carry is refused with its path", () => {
  test.each<[string, unknown, string]>([
    ["a function", { a: [{ fn: () => 1 }] }, "value.a[0].fn is a function"],
    ["a symbol", { a: Symbol("s") }, "value.a is a symbol"],
    ["a BigInt", { total: [1, 2n] }, "value.total[1] is a BigInt"],
    ["NaN", { "the score": Number.NaN }, 'value["the score"] is NaN'],
    ["Infinity", [[Number.POSITIVE_INFINITY]], "value[0][0] is Infinity"],
    ["-Infinity", [Number.NEGATIVE_INFINITY], "value[0] is -Infinity"],
    ["a cycle", cycle, "value.list[1].back refers back to an object that contains it (a cycle)"],
    [
      "a class instance",
      { account: new Account() },
      "value.account is an instance of Account, which has no toJSON",
    ],
    ["a Map", { byId: new Map() }, "value.byId is an instance of Map, which has no toJSON"],
    ["an Error", [new TypeError("no")], "value[0] is an instance of TypeError, which has no toJSON"],
    ["a boxed number", { n: Object(5) as unknown }, "value.n is an instance of Number, which has no toJSON"],
    ["undefined in an array", { list: [1, undefined] }, "value.list[1] is undefined"],
    // oxlint-disable-next-line no-sparse-arrays -- the hole is the point
    ["a hole in an array", { list: [1, , 3] }, "value.list[1] is undefined"],
    ["undefined itself", undefined, "value is undefined"],
    ["a lone high surrogate", { a: ["\ud83d"] }, "value.a[0] has a lone surrogate"],
    ["a lone low surrogate", { "my text": "x\ude00" }, 'value["my text"] has a lone surrogate'],
    ["a lone surrogate in a key", { a: { "\ud83d!": 1 } }, "value.a has a lone surrogate"],
  ])("%s", (_name, value, message) => {
    expect(() => canonicalJson(value)).toThrow(
      expect.objectContaining({
        name: "DurablePayloadError",
        code: "payload_not_json",
        message: expect.stringContaining(message) as string,
      }),
    );
    expect(() => canonicalHash(value)).toThrow(message);
  });

  test("an object that occurs twice is no cycle", () => {
    const shared = { x: 1 };
    expect(canonicalJson({ a: shared, b: [shared, shared] })).toBe('{"a":{"x":1},"b":[{"x":1},{"x":1}]}');
  });
});

describe("hashes", () => {
  test.each<[string, unknown, string]>([
    ["{}", {}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"],
    ["[]", [], "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"],
    ["null", null, "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"],
    ["true", true, "b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b"],
    ["0", 0, "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"],
    ['"abc"', "abc", "6cc43f858fbb763301637b5af970e2a46b46f461f27e5a0f41e009c59b827b25"],
    ['"€😀"', "€😀", "a0350e60ce644a3f837f79822d2f0036b14296bf251571fd9d7cffb57f646fef"],
    [
      "a million letters",
      "a".repeat(1_000_000),
      "6baf4c35957b6d7bc3a54bde0e79851f81cab67232eee2b4b75be96fb2f5ccf4",
    ],
    ["RFC 8785, 3.2.2", RFC_EXAMPLE, "2d5e01a318d0f0879ab568c4be289c8b1f64ef8921a53c6277d5e069978baacb"],
    ["RFC 8785, 3.2.3", RFC_KEYS, "5e321556d22018a9656991a9e94f77ec175fa193e52a2429d312f8419ec8b08c"],
  ])("%s has the SHA-256 that it has everywhere", (_name, value, hash) => {
    expect(canonicalHash(value)).toBe(hash);
  });

  test("the id of a step is that of its run, position and intent, at every attempt and in every runtime", () => {
    expect(stepId("run-1", 0, "fetch the page")).toBe(
      "df60f725b6533ac62e71c4b0f043ecb6f0869b144f74ce85d951ca01d4ac295a",
    );
    expect(stepId("läufe/😀", 41, 'event:"go"')).toBe(
      "77484fd2754ed0120f9aa0e8d949d5772a8c508046d4178f335affebdb4a2c3c",
    );
  });

  test("steps that share no run, position or intent share no id", () => {
    const ids = [
      stepId("r", 1, "a"),
      stepId("r", 2, "a"),
      stepId("r", 1, "b"),
      stepId("r1", 1, "a"),
      stepId("r", 11, "a"),
    ];
    expect(new Set(ids).size).toBe(ids.length);
  });
});

describe("the hash of a manifest", () => {
  const MANIFEST = {
    projectId: "legal-agent",
    scenarioId: "nda",
    task: { id: "t1", intent: "review the contract", domain: "law" },
    input: { title: "Zusätze § 7 – 😀", pages: [1, 2.5, 1e21] },
  } satisfies DurableRunManifest;
  const HASH = "db0e82c39cdb523263b345a6af9698a9ece74dbc1bf14d716cddbfda0a7e741d";

  test("is the same in every runtime", () => {
    expect(manifestHash(MANIFEST)).toBe(HASH);
    expect(manifestHash({ projectId: "p", task: { id: "t", intent: "do" }, input: {} })).toBe(
      "08621d436c3f52e7f9df67b7a561ed0e557f63e53f980f4ea76a9ba0d9613184",
    );
  });

  test("does not count tags, nor fields that the task has besides its id, intent and domain", () => {
    const task = {
      ...MANIFEST.task,
      inputs: { a: 1 },
      requiredKnowledge: ["law"],
      budget: { usd: 3 },
      metadata: { owner: "ann" },
      somethingOfOurs: { at: 1 },
    };
    expect(manifestHash({ ...MANIFEST, tags: { env: "prod" } })).toBe(HASH);
    expect(manifestHash({ ...MANIFEST, task })).toBe(HASH);
    const withMore = { ...MANIFEST, comment: "not of the contract" };
    expect(manifestHash(withMore)).toBe(HASH);
  });

  const { scenarioId: _scenario, ...withoutScenario } = MANIFEST;
  test.each<[string, DurableRunManifest]>([
    ["projectId", { ...MANIFEST, projectId: "legal-agent-2" }],
    ["scenarioId", { ...MANIFEST, scenarioId: "lease" }],
    ["scenarioId, left out", withoutScenario],
    ["task.id", { ...MANIFEST, task: { ...MANIFEST.task, id: "t2" } }],
    ["task.intent", { ...MANIFEST, task: { ...MANIFEST.task, intent: "review the contract again" } }],
    ["task.domain", { ...MANIFEST, task: { ...MANIFEST.task, domain: "tax" } }],
    ["task.domain, left out", { ...MANIFEST, task: { id: "t1", intent: "review the contract" } }],
    ["input", { ...MANIFEST, input: { ...MANIFEST.input, pages: [1, 2.5] } }],
  ])("counts %s", (_field, manifest) => {
    expect(manifestHash(manifest)).not.toBe(HASH);
  });

  test("names the place of what JSON cannot carry", () => {
    expect(() => manifestHash({ ...MANIFEST, input: { pages: [1n] } })).toThrow(
      "manifest.input.pages[0] is a BigInt",
    );
    expect(() => manifestHash({ ...MANIFEST, input: { title: "\ud83d" } })).toThrow(
      "manifest.input.title has a lone surrogate",
    );
  });
});

describe("worker ids", () => {
  test("are host:pid:random, and fit the limit", () => {
    const id = deriveWorkerId();
    expect(id).toMatch(/^[^:]+:\d+:[0-9a-f]{8}-[0-9a-f]{4}$/);
    expect(new TextEncoder().encode(id).byteLength).toBeLessThanOrEqual(LIMITS.workerIdBytes);
  });

  test("are never the same", () => {
    expect(new Set(Array.from({ length: 1_000 }, deriveWorkerId)).size).toBe(1_000);
  });

  test.each<[string, object | undefined, RegExp]>([
    ["no process", undefined, /^workers:0:[0-9a-f-]{13}$/],
    ["a process without a pid", { env: {} }, /^workers:0:[0-9a-f-]{13}$/],
    ["a process without an environment", { pid: 42 }, /^host:42:[0-9a-f-]{13}$/],
    ["a host name", { pid: 42, env: { HOSTNAME: "box-1" } }, /^box-1:42:[0-9a-f-]{13}$/],
  ])("are made with %s", (_name, process, form) => {
    expect(withProcess(process, deriveWorkerId)).toMatch(form);
  });
});

describe("run ids", () => {
  test("are ULIDs that grow strictly, however fast they are made", () => {
    const ids = Array.from({ length: 10_000 }, newRunId);
    for (const id of ids) expect(id).toMatch(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
    expect(ids.every((id, i) => i === 0 || id > (ids[i - 1] ?? ""))).toBe(true);
  });

  test("have 80 random bits of their own in each millisecond", async () => {
    const random: string[] = [];
    for (let i = 0, last = 0; i < 50; i += 1) {
      while (Date.now() === last) await new Promise((resolve) => setTimeout(resolve, 1));
      last = Date.now();
      random.push(newRunId().slice(10));
    }
    expect(new Set(random).size).toBe(50);
    expect([...new Set(random.join(""))].toSorted().join("")).toBe("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
  });

  test("share no id with requests", () => {
    const ids = Array.from({ length: 100 }, () => [newRunId(), newRequestId()]).flat();
    expect(new Set(ids).size).toBe(200);
  });
});

function hex(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function doubleOf(bits: string): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(`0x${bits}`));
  return view.getFloat64(0);
}

/** The same value with the keys of every object in another order. */
function shuffled(value: unknown, random: fc.Stream<number>): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffled(item, random));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [key, shuffled(item, random)] as const);
  const ranked = entries.map((entry) => ({ entry, rank: random.next().value as number }));
  return Object.fromEntries(ranked.sort((a, b) => a.rank - b.rank).map(({ entry }) => entry));
}

/** Runs `work` where the runtime has another `process`, or none. */
function withProcess<T>(process: object | undefined, work: () => T): T {
  const real = Object.getOwnPropertyDescriptor(globalThis, "process");
  Object.defineProperty(globalThis, "process", { value: process, configurable: true, writable: true });
  try {
    return work();
  } finally {
    if (real) Object.defineProperty(globalThis, "process", real);
    else Reflect.deleteProperty(globalThis, "process");
  }
}
