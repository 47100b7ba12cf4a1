/** Payloads: a caller's value becomes JSON text, and text the value that a replay sees (R21, R25). */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DurablePayloadError } from "../src/contract/errors.ts";
import { byteLength, LIMITS } from "../src/contract/limits.ts";
import { fromJsonText, NO_VALUE, toJsonText } from "../src/contract/payload.ts";

const MIB_16 = 16_777_216;

describe("first execution and replay see the same value (R25)", () => {
  test("any JSON value comes back as JSON gives it back", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
        const first = fromJsonText(toJsonText("result", value));
        expect(first).toEqual(JSON.parse(JSON.stringify(value)));
        expect(toJsonText("result", first)).toBe(toJsonText("result", value));
      }),
      { numRuns: 300 },
    );
  });

  test("any value at all comes back the same at each replay, or is refused with its path", () => {
    const anything = fc.anything({
      withBigInt: true,
      withBoxedValues: true,
      withDate: true,
      withMap: true,
      withNullPrototype: true,
      withSet: true,
      withSparseArray: true,
      withTypedArray: true,
    });
    fc.assert(
      fc.property(anything, (value) => {
        const text = textOrRefusal(value);
        if (text instanceof DurablePayloadError) {
          expect(text.code).toBe("payload_not_json");
          expect(text.message).toMatch(/^result[ .[]/);
        } else {
          expect(toJsonText("result", fromJsonText(text))).toBe(text);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("undefined is carried, and is not null, nor an empty text", () => {
    expect(toJsonText("result", undefined)).toBe(NO_VALUE);
    expect([undefined, null, ""].map((value) => fromJsonText(toJsonText("result", value)))).toEqual([
      undefined,
      null,
      "",
    ]);
  });

  test("what JSON changes is changed the first time already", () => {
    const value = { when: new Date(0), zero: -0, gone: undefined, nested: { gone: undefined } };
    expect(fromJsonText(toJsonText("result", value))).toStrictEqual({
      when: "1970-01-01T00:00:00.000Z",
      zero: 0,
      nested: {},
    });
  });

  test("a text gives a new value at each call", () => {
    const text = toJsonText("result", { list: [1] });
    const first = fromJsonText(text) as { list: number[] };
    first.list.push(2);
    expect(fromJsonText(text)).toEqual({ list: [1] });
  });
});

describe("a payload", () => {
  test("keeps keys that objects treat specially", () => {
    const text = '{"__proto__":{"admin":true},"constructor":1,"toString":2}';
    const value = JSON.parse(text) as object;
    const back = fromJsonText(toJsonText("result", value)) as object;
    expect(toJsonText("result", value)).toBe(text);
    expect(Object.getPrototypeOf(back)).toBe(Object.prototype);
    expect(Object.keys(back)).toEqual(["__proto__", "constructor", "toString"]);
  });

  test("may be made of objects without a prototype", () => {
    const value: unknown = Object.assign(Object.create(null) as object, {
      a: 1,
      b: Object.create(null) as unknown,
    });
    expect(toJsonText("result", value)).toBe('{"a":1,"b":{}}');
  });

  test("may be made of objects of another realm, whose Object.prototype is not ours", () => {
    const foreignPrototype = Object.create(null) as object;
    Object.defineProperty(foreignPrototype, "constructor", { value: function Object() {} });
    const value: unknown = Object.assign(Object.create(foreignPrototype) as object, { a: [1] });
    expect(toJsonText("result", value)).toBe('{"a":[1]}');
  });

  test("leaves out, as JSON.stringify does, what is keyed by a symbol, inherited or not enumerable", () => {
    const value = Object.defineProperty({ [Symbol("s")]: 1, a: 2 }, "hidden", { value: 3 });
    expect(toJsonText("result", value)).toBe('{"a":2}');
  });

  test("keeps an object that occurs twice", () => {
    const shared = { x: 1 };
    expect(toJsonText("result", [shared, { shared }])).toBe('[{"x":1},{"shared":{"x":1}}]');
  });

  test("has each of its properties read once, so that a getter cannot tell replay from record", () => {
    let reads = 0;
    const value = {
      get next() {
        return (reads += 1);
      },
    };
    expect(toJsonText("result", value)).toBe('{"next":1}');
    expect(reads).toBe(1);
  });

  test("keeps a lone surrogate, as JSON does, by escaping it", () => {
    expect(toJsonText("result", "\ud83d")).toBe('"\\ud83d"');
    expect(fromJsonText('"\\ud83d"')).toBe("\ud83d");
  });
});

describe("toJSON", () => {
  test("is asked with the key under which its object stands, as by JSON.stringify", () => {
    const keys: string[] = [];
    const probe = {
      toJSON(key: string) {
        keys.push(key);
        return keys.length;
      },
    };
    expect(toJsonText("result", { a: probe, list: [0, probe] })).toBe('{"a":1,"list":[0,2]}');
    expect(toJsonText("result", probe)).toBe("3");
    expect(keys).toEqual(["a", "1", ""]);
  });

  test("makes a class instance a payload", () => {
    class Money {
      readonly cents = 1_250;
      toJSON(): unknown {
        return { cents: this.cents };
      }
    }
    expect(toJsonText("result", { price: new Money() })).toBe('{"price":{"cents":1250}}');
  });

  test("is asked once: what it answers is held to the same rules", () => {
    expect(() => toJsonText("result", { at: { toJSON: () => new Date(0) } })).toThrow(
      "result.at is an instance of Date, which has no toJSON",
    );
    expect(() => toJsonText("result", { n: { toJSON: () => 1n } })).toThrow("result.n is a BigInt");
    expect(() => toJsonText("result", [{ toJSON: () => undefined }])).toThrow("result[0] is undefined");
  });

  test("may throw, and then the caller sees that error unchanged (R27)", () => {
    const own = new Error("mine");
    const value = {
      toJSON() {
        throw own;
      },
    };
    expect(() => toJsonText("result", value)).toThrow(own);
  });
});

class Account {
  readonly id = 7;
}

describe("what JSON cannot carry is refused with the place where it stands", () => {
  test.each<[string, unknown, string]>([
    ["a function", () => 1, "result is a function"],
    ["a symbol", { s: Symbol("s") }, "result.s is a symbol"],
    ["a BigInt", { "a b": [10n] }, 'result["a b"][0] is a BigInt; write it as a string'],
    ["NaN", { score: Number.NaN }, "result.score is NaN"],
    ["Infinity", [Number.POSITIVE_INFINITY], "result[0] is Infinity"],
    ["a class instance", { account: new Account() }, "result.account is an instance of Account"],
    [
      "an instance of a nameless class",
      [new (class {})()],
      "result[0] is an instance of a class, which has no toJSON",
    ],
    ["a Map", new Map(), "result is an instance of Map"],
    [
      "a Promise, so a forgotten await",
      { page: Promise.resolve(1) },
      "result.page is an instance of Promise",
    ],
    ["bytes", { body: new Uint8Array(2) }, "result.body is an instance of Uint8Array"],
    ["undefined in an array", [1, undefined], "result[1] is undefined"],
  ])("%s", (_name, value, message) => {
    const error = textOrRefusal(value);
    expect(error).toBeInstanceOf(DurablePayloadError);
    expect(error).toMatchObject({
      code: "payload_not_json",
      message: expect.stringContaining(message) as string,
    });
  });

  test("a cycle, with the place where it closes", () => {
    const value = { list: [{}] as object[] };
    value.list.push({ top: value });
    expect(() => toJsonText("input", value)).toThrow(
      "input.list[1].top refers back to an object that contains it (a cycle): JSON cannot carry it",
    );
  });
});

describe("nesting", () => {
  const arrays = (depth: number): unknown => {
    let value: unknown[] = [];
    for (let i = 1; i < depth; i += 1) value = [value];
    return value;
  };
  const objects = (depth: number): unknown => {
    let value: object = {};
    for (let i = 1; i < depth; i += 1) value = { inner: value };
    return value;
  };

  test.each([
    ["arrays", arrays],
    ["objects", objects],
  ])("%s go 1,000 deep", (_name, nest) => {
    const text = toJsonText("result", nest(1_000));
    expect(fromJsonText(text)).toEqual(nest(1_000));
  });

  test.each([
    ["arrays one deeper", arrays(1_001)],
    ["objects one deeper", objects(1_001)],
    ["arrays 100,000 deep", arrays(100_000)],
    ["a toJSON that never comes to an end", endless()],
  ])("%s are refused, with a message that stays short", (_name, value) => {
    const error = textOrRefusal(value);
    expect(error).toMatchObject({
      code: "payload_not_json",
      message: expect.stringMatching(/^result.{70,90} is nested more than 1000 deep/) as string,
    });
  });
});

describe("the size limit", () => {
  // Two bytes of UTF-8 each, and two quotes.
  const exact = "é".repeat(MIB_16 / 2 - 1);

  test("lets 16 MiB of UTF-8 pass, to the byte", () => {
    const text = toJsonText("result", exact);
    expect(byteLength(text)).toBe(MIB_16);
    expect(fromJsonText(text)).toBe(exact);
  });

  test("refuses one byte more, and says both sizes", () => {
    const error = textOrRefusal(`${exact}a`);
    expect(error).toMatchObject({
      name: "DurablePayloadError",
      code: "payload_too_large",
      message: expect.stringContaining(
        "result has 16777217 bytes as JSON; at most 16777216 are allowed",
      ) as string,
    });
    expect(LIMITS.payloadBytes).toBe(MIB_16);
  });

  test("counts bytes, not characters, of the JSON text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const bytes = byteLength(JSON.stringify(text));
        expect(toJsonText("input", text, bytes)).toBe(JSON.stringify(text));
        expect(() => toJsonText("input", text, bytes - 1)).toThrow(
          `input has ${bytes} bytes as JSON; at most ${bytes - 1} are allowed`,
        );
      }),
      { numRuns: 300 },
    );
  });
});

function textOrRefusal(value: unknown): string | DurablePayloadError {
  try {
    return toJsonText("result", value);
  } catch (error) {
    if (error instanceof DurablePayloadError) return error;
    throw error;
  }
}

function endless(): unknown {
  return { toJSON: () => ({ next: endless() }) };
}
