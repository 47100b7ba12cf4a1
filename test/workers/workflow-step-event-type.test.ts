/** Event keys as the platform's event types, and back. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DurableInvalidInputError } from "../../src/contract/errors.ts";
import { eventKeyOf, workflowEventType } from "../../src/workflows/event-type.ts";

/** The platform's own rule. https://developers.cloudflare.com/workflows/reference/limits/ */
const ALLOWED = /^[a-zA-Z0-9_][a-zA-Z0-9-_]*$/;

/** Up to 100 characters, as the worst of them takes 12. */
const keys = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
  .filter((key) => typeOf(key) !== undefined);

describe("the event type of a key", () => {
  it.each([
    ["approve", "approve"],
    ["approve-2", "approve-2"],
    ["-approve", "_2Dapprove"],
    ["a_b", "a_5Fb"],
    ["_2D", "_5F2D"],
    ["approve: invoice/42 🙂", "approve_3A_20invoice_2F42_20_F0_9F_99_82"],
    ["\ufeffbom", "_EF_BB_BFbom"],
  ])("of %j is %j", (key, type) => {
    expect(workflowEventType(key)).toBe(type);
    expect(eventKeyOf(type)).toBe(key);
  });

  it("is one that the platform takes, and gives the key back, whatever the key", () => {
    fc.assert(
      fc.property(keys, (key) => {
        const type = workflowEventType(key);
        expect(type).toMatch(ALLOWED);
        expect(type.length).toBeLessThanOrEqual(100);
        expect(eventKeyOf(type)).toBe(key);
      }),
      { numRuns: 1_000 },
    );
  });

  it("may have 100 characters, and a key that needs more is refused with the limit", () => {
    expect(workflowEventType("x".repeat(100))).toHaveLength(100);
    expect(refusal(() => workflowEventType("x".repeat(101)))).toMatchObject({
      field: "key",
      message: expect.stringContaining(
        "has 101 characters as an event type of Workflows; at most 100",
      ) as string,
    });
    expect(refusal(() => workflowEventType("/".repeat(34)))).toMatchObject({ field: "key" });
  });

  it.each([
    ["empty", ""],
    ["with a control character", "a\nb"],
    ["with half a character", "\ud83d"],
  ])("is not made of a key that is refused everywhere: %s", (_claim, key) => {
    expect(refusal(() => workflowEventType(key))).toMatchObject({ field: "key", code: "invalid_input" });
  });
});

describe("a type that no key has", () => {
  it.each(["", "-a", "a_", "a_5f", "_41", "a b", "_FF", "_ED_A0_80", "x".repeat(101)])(
    "%j is refused",
    (type) => {
      expect(refusal(() => eventKeyOf(type))).toMatchObject({ field: "type", code: "invalid_input" });
    },
  );

  it("is refused whatever it is, so that each type has one key", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("_", "-", "a", "A", "0", "F", "4"), maxLength: 12 }),
        (type) => {
          let key: string;
          try {
            key = eventKeyOf(type);
          } catch (error) {
            expect(error).toBeInstanceOf(DurableInvalidInputError);
            return;
          }
          expect(workflowEventType(key)).toBe(type);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});

function typeOf(key: string): string | undefined {
  try {
    return workflowEventType(key);
  } catch {
    return undefined;
  }
}

function refusal(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(DurableInvalidInputError);
    return error;
  }
  throw new Error("it was not refused");
}
