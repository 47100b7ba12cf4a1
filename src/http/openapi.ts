/** The OpenAPI 3.1 document, made of the endpoints and their schemas: 3.1 takes JSON Schema as zod writes it. */
import { z } from "zod";
import { answers, components } from "./components.ts";
import type { Endpoint } from "./endpoint.ts";
import { PROBLEMS } from "./problems.ts";

type Json = Record<string, unknown>;

/** `base`: where the paths are, such as "/api/v1". */
export function openApiDocument(endpoints: readonly Endpoint[], base: string): Json {
  const paths: Record<string, Json> = {};
  for (const endpoint of endpoints) {
    const path = endpoint.path.replaceAll(/:(\w+)/g, "{$1}");
    (paths[path] ??= {})[endpoint.method] = operation(endpoint);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "durable-runs",
      version: "1",
      description: "Errors are problem details (RFC 9457) with a `code`.",
    },
    servers: [{ url: base }],
    security: [{ bearer: [] }, { session: [] }, { access: [] }],
    paths,
    components: { schemas: namedSchemas(), securitySchemes: SECURITY },
  };
}

const SECURITY = {
  bearer: { type: "http", scheme: "bearer" },
  session: { type: "apiKey", in: "cookie", name: "__Host-durable-runs" },
  access: { type: "apiKey", in: "header", name: "Cf-Access-Jwt-Assertion" },
};

const IDEMPOTENCY_KEY = {
  name: "Idempotency-Key",
  in: "header",
  required: false,
  description: "Repeat a request whose answer was lost under the same key: one effect, one answer.",
  schema: { type: "string", minLength: 1, maxLength: 128 },
};

function operation(endpoint: Endpoint): Json {
  const { id, summary, access, params, query, body, bodyOptional = false } = endpoint;
  return {
    operationId: id,
    summary,
    ...(access === "public" && { security: [] }),
    parameters: [
      ...parameters(params, "path"),
      ...parameters(query, "query"),
      ...(access === "write" ? [IDEMPOTENCY_KEY] : []),
    ],
    ...(body !== undefined && {
      requestBody: { required: !bodyOptional, content: { "application/json": { schema: refTo(body) } } },
    }),
    responses: {
      ...Object.fromEntries(
        Object.entries(endpoint.answers).map(([status, [description, schema]]) => [
          status,
          { description, content: { "application/json": { schema: refTo(schema) } } },
        ]),
      ),
      default: {
        description: `A problem. Its code is one of ${Object.keys(PROBLEMS).join(", ")}.`,
        content: { "application/problem+json": { schema: refTo(answers.problem) } },
      },
    },
  };
}

function parameters(schema: z.ZodType, place: "path" | "query"): Json[] {
  if (!(schema instanceof z.ZodObject)) return [];
  return Object.entries(schema.shape as Record<string, z.ZodType>).map(([name, field]) => {
    // What is taken is text; the document tells what it stands for.
    const { $schema: _, description, ...json } = z.toJSONSchema(field, { io: "output" });
    return {
      name,
      in: place,
      required: !field.safeParse(undefined).success,
      ...(description !== undefined && { description }),
      schema: json,
    };
  });
}

function refTo(schema: z.ZodType): Json {
  const id = components.get(schema)?.id;
  if (id === undefined) throw new Error("what the API takes or answers needs a name");
  return { $ref: uri(id) };
}

function namedSchemas(): Json {
  const { schemas } = z.toJSONSchema(components, {
    uri,
    io: "input",
    // That a type is readonly in TypeScript says nothing here.
    override: ({ jsonSchema }) => void delete jsonSchema.readOnly,
  });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _schema, $id: _id, ...schema }]) => [id, schema]),
  );
}

function uri(id: string): string {
  return `#/components/schemas/${id}`;
}
