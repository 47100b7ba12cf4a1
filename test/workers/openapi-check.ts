/**
 * Is an answer what the OpenAPI document says? As much of JSON Schema as the document uses: a keyword that is not known
 * here is itself a problem. A property that a schema does not list is one, too, so that nothing undocumented goes out.
 */
type Json = Record<string, unknown>;

export interface Answer {
  status: number;
  type: string | null;
  text: string;
}

/** What is wrong, in words. A path that no endpoint has may only answer a problem. */
export function problemsOfAnswer(document: Json, method: string, pathname: string, answer: Answer): string[] {
  const operation = operationAt(document, method, pathname);
  const responses = (operation?.["responses"] ?? {}) as Record<string, Json>;
  const isProblem = answer.type === "application/problem+json";
  const documented = responses[isProblem ? "default" : String(answer.status)];
  const schema = isProblem
    ? { $ref: "#/components/schemas/Problem" }
    : (((documented?.["content"] as Json | undefined)?.[answer.type ?? ""] as Json | undefined)?.[
        "schema"
      ] as Json);
  if (schema === undefined) return [`${answer.status} with ${answer.type} is not documented`];
  if (isProblem !== answer.status >= 400) return [`a status of ${answer.status} with ${answer.type}`];
  return problemsOf(document, schema, JSON.parse(answer.text), "body");
}

export function operationAt(document: Json, method: string, pathname: string): Json | undefined {
  const paths = document["paths"] as Record<string, Json>;
  for (const [template, item] of Object.entries(paths)) {
    const pattern = new RegExp(`^/api/v1${template.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`);
    const operation = item[method.toLowerCase()] as Json | undefined;
    if (operation !== undefined && pattern.test(pathname)) return operation;
  }
  return undefined;
}

const ANNOTATIONS = new Set(["description", "format", "title", "default"]);

export function problemsOf(document: Json, schema: Json, value: unknown, at: string): string[] {
  return Object.entries(schema).flatMap(([keyword, rule]): string[] => {
    if (ANNOTATIONS.has(keyword)) return [];
    const check = KEYWORDS[keyword];
    return check === undefined
      ? [`${at}: the keyword ${keyword} is not known`]
      : check({ document, schema, value, at }, rule);
  });
}

interface At {
  document: Json;
  schema: Json;
  value: unknown;
  at: string;
}

const KEYWORDS: Readonly<Record<string, (at: At, rule: unknown) => string[]>> = {
  $ref: ({ document, value, at }, ref) => problemsOf(document, resolve(document, ref as string), value, at),
  type: ({ value, at }, type) => (isOf(type as string, value) ? [] : [`${at} is no ${String(type)}`]),
  enum: ({ value, at }, values) =>
    (values as unknown[]).includes(value) ? [] : [`${at} is none of ${String(values)}`],
  const: ({ value, at }, one) => (value === one ? [] : [`${at} is not ${String(one)}`]),
  minimum: ({ value, at }, min) =>
    typeof value !== "number" || value >= (min as number) ? [] : [`${at} is too small`],
  maximum: ({ value, at }, max) =>
    typeof value !== "number" || value <= (max as number) ? [] : [`${at} is too large`],
  required: ({ value, at }, names) =>
    (names as string[])
      .filter((name) => !Object.hasOwn(value as Json, name))
      .map((name) => `${at} lacks ${name}`),
  items: ({ document, value, at }, items) =>
    (value as unknown[]).flatMap((item, i) => problemsOf(document, items as Json, item, `${at}[${i}]`)),
  propertyNames: ({ document, value, at }, names) =>
    Object.keys(value as Json).flatMap((name) =>
      problemsOf(document, names as Json, name, `${at}'s ${name}`),
    ),
  properties: ({ document, schema, value, at }, properties) =>
    Object.entries(value as Json).flatMap(([name, member]) => {
      const known = (properties as Record<string, Json>)[name];
      if (known !== undefined) return problemsOf(document, known, member, `${at}.${name}`);
      return "additionalProperties" in schema ? [] : [`${at}.${name} is not documented`];
    }),
  additionalProperties: ({ document, schema, value, at }, rest) => {
    const known = (schema["properties"] ?? {}) as Json;
    const others = Object.entries(value as Json).filter(([name]) => !Object.hasOwn(known, name));
    if (rest === false) return others.map(([name]) => `${at}.${name} is not allowed`);
    return others.flatMap(([name, member]) => problemsOf(document, rest as Json, member, `${at}.${name}`));
  },
};

export function resolve(document: Json, ref: string): Json {
  const found = ref
    .slice(2)
    .split("/")
    .reduce<unknown>((here, name) => (here as Json | undefined)?.[name], document);
  if (!ref.startsWith("#/") || found === undefined) throw new Error(`${ref} leads nowhere`);
  return found as Json;
}

function isOf(type: string, value: unknown): boolean {
  switch (type) {
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "integer":
      return Number.isSafeInteger(value);
    default:
      return typeof value === type;
  }
}
