/** Requests as their stores handle them: the one payload that each may bring can be seen and replaced. */
import { describe, expect, test } from "vitest";
import type { Body } from "../src/ledger/state.ts";
import type { Request } from "../src/ledger/requests.ts";
import { bodyOf, refuse, withBody } from "../src/ledger/requests.ts";
import {
  beginOf,
  cancelOf,
  claimOf,
  completeOf,
  copyOf,
  emitOf,
  endOf,
  failOf,
  forkOf,
  renewOf,
  resolveOf,
  restartOf,
  sealOf,
  suspendOf,
} from "./helpers/ledger.ts";

const TEXT: Body = { text: "[1]" };
const REF: Body = { ref: "body-1" };

describe("the payload of a request", () => {
  test.each<[string, Request, Request]>([
    ["a claim is the input", claimOf({ input: TEXT }), claimOf({ input: REF })],
    ["a completion is the result", completeOf({ result: TEXT }), completeOf({ result: REF })],
    ["an end is the result", endOf({ result: TEXT }), endOf({ result: REF })],
    ["a decision is the result", resolveOf({ result: TEXT }), resolveOf({ result: REF })],
    ["a fork is the input", forkOf({ input: TEXT }), forkOf({ input: REF })],
    ["a copy is the result", copyOf({ result: TEXT }), copyOf({ result: REF })],
    ["an emit is the event's payload", emitOf({ payload: TEXT }), emitOf({ payload: REF })],
  ])("of %s", (_which, request, replaced) => {
    expect(bodyOf(request)).toBe(TEXT);
    expect(withBody(request, REF)).toEqual(replaced);
    expect(bodyOf(request)).toBe(TEXT);
  });

  test.each<[string, Request]>([
    ["a renewal", renewOf()],
    ["a begin", beginOf()],
    ["a failure", failOf()],
    ["a suspension", suspendOf()],
    ["a cancellation", cancelOf()],
    ["a restart", restartOf()],
    ["a seal", sealOf()],
  ])("of %s does not exist", (_which, request) => {
    expect(bodyOf(request)).toBeNull();
    expect(withBody(request, REF)).toBe(request);
  });

  test.each([endOf, resolveOf, copyOf])("of %s may be absent, which is not the same as undefined", (make) => {
    expect(bodyOf(make({ result: null }))).toBeNull();
    expect(bodyOf(make({ result: { text: "" } }))).toEqual({ text: "" });
  });
});

describe("a refusal", () => {
  test("is plain data, with the details that its error has", () => {
    expect(refuse("lease_held", "held", { retryAfterMs: 5 })).toEqual({
      ok: false,
      error: { code: "lease_held", message: "held", retryAfterMs: 5 },
    });
    expect(refuse("lease_lost", "lost")).toEqual({
      ok: false,
      error: { code: "lease_lost", message: "lost" },
    });
  });
});
