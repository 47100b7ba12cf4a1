/** The OpenAPI document: is it one, and is it of this API? That answers are what it says is asserted at every call. */
import { describe, expect, it } from "vitest";
import { ENDPOINTS } from "../../src/http/endpoints.ts";
import { PROBLEMS } from "../../src/http/problems.ts";
import { call, DOCUMENT, json } from "./http-world.ts";
import { problemsOf, resolve } from "./openapi-check.ts";

type Json = Record<string, unknown>;
interface Parameter {
  name: string;
  in: string;
  required: boolean;
  schema: Json;
}
interface Operation {
  operationId: string;
  summary: string;
  parameters: Parameter[];
  requestBody?: { required: boolean; content: Record<string, { schema: Json }> };
  responses: Record<string, { description: string; content: Record<string, { schema: Json }> }>;
  security?: unknown[];
}

const paths = DOCUMENT["paths"] as Record<string, Record<string, Operation>>;
const operations = Object.entries(paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

describe("the document", () => {
  it("is served, and of OpenAPI 3.1", async () => {
    const served = await json(call("/api/v1/openapi.json", { as: "alphaReader" }));
    expect(served).toEqual(JSON.parse(JSON.stringify(DOCUMENT)));
    expect(served).toMatchObject({
      openapi: expect.stringMatching(/^3\.1\.\d+$/),
      servers: [{ url: "/api/v1" }],
    });
    expect(served).toMatchObject({ info: { title: expect.any(String), version: expect.any(String) } });
  });

  it("has each endpoint once, under an id of its own", () => {
    const listed = operations.map(
      ({ path, method, operation }) => `${operation.operationId} ${method} ${path}`,
    );
    const there = ENDPOINTS.map(
      ({ id, method, path }) => `${id} ${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`,
    );
    expect(listed.toSorted()).toEqual(there.toSorted());
    expect(new Set(ENDPOINTS.map(({ id }) => id)).size).toBe(ENDPOINTS.length);
  });

  it.each(operations)(
    "says of $operation.operationId what it takes and answers",
    ({ path, operation, method }) => {
      const inPath = operation.parameters.filter((parameter) => parameter.in === "path");
      expect(inPath.map(({ name }) => name)).toEqual(
        [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
      );
      expect(inPath.every(({ required }) => required)).toBe(true);
      const names = operation.parameters.map((parameter) => `${parameter.in} ${parameter.name}`);
      expect(new Set(names).size).toBe(names.length);
      for (const { schema, in: place } of operation.parameters) {
        expect(["path", "query", "header"]).toContain(place);
        expect(schema["type"]).toMatch(/^(string|integer|number|boolean|array)$/);
      }
      expect(operation.requestBody === undefined).toBe(method === "get");
      const statuses = Object.keys(operation.responses);
      expect(statuses).toContain("default");
      expect(statuses.some((status) => /^2\d\d$/.test(status))).toBe(true);
      expect(operation.security).toEqual(operation.operationId === "health" ? [] : undefined);
    },
  );

  it("refers to nothing that is not there, and has nothing that nobody refers to", () => {
    const text = JSON.stringify(DOCUMENT);
    const refs = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref ?? ""));
    for (const ref of refs) expect(resolve(DOCUMENT, ref)).toBeTypeOf("object");
    const named = Object.keys(resolve(DOCUMENT, "#/components/schemas")).map(
      (id) => `#/components/schemas/${id}`,
    );
    expect([...refs].toSorted()).toEqual(named.toSorted());
    expect(text).not.toContain('"$schema"');
    expect(text).not.toContain('"$id"');
  });

  it("knows every code of a problem", () => {
    const { code } = resolve(DOCUMENT, "#/components/schemas/Problem/properties") as {
      code: { enum: string[] };
    };
    expect(code.enum).toEqual(Object.keys(PROBLEMS));
  });
});

describe("the check that answers are held against", () => {
  const schema = { $ref: "#/components/schemas/StepError" };
  it.each<[unknown, number]>([
    [{ message: "m", code: "c" }, 0],
    [{}, 1],
    [{ message: 1 }, 1],
    [{ message: "m", more: true }, 1],
  ])("finds in %j as many problems as there are", (value, count) => {
    expect(problemsOf(DOCUMENT, schema, value, "it")).toHaveLength(count);
  });
});
