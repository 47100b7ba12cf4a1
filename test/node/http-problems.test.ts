/** Errors as problem details: what goes out, and what stays in. */
import { describe, expect, it, vi } from "vitest";
import {
  DurableInvalidInputError,
  DurableRunLeaseHeldError,
  DurableRunNotFoundError,
  errorFromData,
} from "../../src/contract/errors.ts";
import type { Problem, ProblemCode } from "../../src/http/problems.ts";
import { HttpError, PROBLEMS, problemResponse } from "../../src/http/problems.ts";

const nobody = (): void => {
  throw new Error("this error is known, and not to be reported");
};

async function problemOf(error: unknown): Promise<Problem> {
  return (await problemResponse(error, nobody).json()) as Problem;
}

describe("a problem", () => {
  it.each(Object.keys(PROBLEMS) as ProblemCode[])(
    "of %s has its status, a title and a sentence",
    async (code) => {
      const response = problemResponse({ code }, () => {});
      const problem = (await response.json()) as Problem;
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(problem).toMatchObject({ type: "about:blank", code, status: response.status });
      expect(problem.title).not.toBe("Error");
      expect(problem.detail).toMatch(/^[A-Z].*\.$/);
    },
  );

  it("says nothing of the message, which quotes", async () => {
    const problem = await problemOf(new DurableRunNotFoundError('no run "<b>secret</b>"'));
    expect(JSON.stringify(problem)).not.toContain("secret");
  });

  it("says when to ask again, also as a header", async () => {
    const response = problemResponse(new DurableRunLeaseHeldError("held", { retryAfterMs: 1_200 }), nobody);
    expect(response.headers.get("retry-after")).toBe("2");
    expect(await response.json()).toMatchObject({ retryAfterMs: 1_200 });
  });

  it("carries what has to go with its status", () => {
    const error = new HttpError("method_not_allowed", { allow: "GET" });
    expect(problemResponse(error, nobody).headers.get("allow")).toBe("GET");
  });

  it("of what is not known is told to the log, and to nobody else", async () => {
    for (const error of [
      new Error("password=1"),
      { code: "ENOENT" },
      "text",
      undefined,
      null,
      { code: "__proto__" },
    ]) {
      const report = vi.fn<(error: unknown) => void>();
      const text = await problemResponse(error, report).text();
      expect(JSON.parse(text)).toMatchObject({ status: 500, code: "internal" });
      expect(text).not.toContain("password");
      expect(report).toHaveBeenCalledWith(error);
    }
  });
});

describe("invalid_input", () => {
  it.each([
    [
      "limit",
      "must be a whole number from 1 to 200, but is 999",
      "limit",
      "limit must be a whole number from 1 to 200",
    ],
    ["kind", 'must be one of a, b, but is "<script>"', "kind", "kind must be one of a, b"],
    ["url", 'must be http or https, not "x"', "url", "url must be http or https"],
    ["url", 'must be of "x", whatever that is', "url", "url is not allowed"],
    [
      "fromStep",
      'is 77, but run "secret" has no such step on record',
      "fromStep",
      "fromStep must be the position of a step on record",
    ],
    ["throughStep", "is 5 of 3 steps", "throughStep", "throughStep must be the position of a step on record"],
    ["edits[7]", "is not JSON", "edits", "edits is not JSON"],
    ["manifest.tags.secret", "must be a string", "tags", "tags must be a string"],
    ["task", '"<x>" is not registered', "task", "task is not allowed"],
    ["<script>", "is not allowed", "(a field)", "(a field) is not allowed"],
    ["secret", "is not known; the fields are a, b", "body", "body must have no field that is not known"],
    [
      "input.secret",
      "is not known; the fields are a, b",
      "input",
      "input must have no field that is not known",
    ],
    ["input.steps", "must be at most 5", "input.steps", "input.steps must be at most 5"],
    ["a".repeat(101), "is not allowed", "(a field)", "(a field) is not allowed"],
    ["tags.x[0]", "has 9 bytes; at most 8 are allowed", "tags", "tags has 9 bytes; at most 8 are allowed"],
  ])("of %s names the field and the rule, and quotes nothing", async (field, problem, shown, detail) => {
    expect(await problemOf(new DurableInvalidInputError(field, problem))).toMatchObject({
      field: shown,
      detail,
    });
  });

  it("does so for an error that came over RPC", async () => {
    const data = {
      code: "invalid_input",
      message: "cursor is not one of this question",
      field: "cursor",
    } as const;
    expect(await problemOf(errorFromData(data))).toMatchObject({ field: "cursor", status: 400 });
  });
});
