/**
 * JSON out of a request's body, read no further than it may be.
 *
 * What is refused here is refused before it is parsed: too many bytes, text that is no UTF-8, too deep a nesting.
 */
import { DurableInvalidInputError, DurablePayloadError } from "../contract/errors.ts";
import { jsonDepth } from "../contract/json-depth.ts";
import { HttpError } from "./problems.ts";

/** Deeper values are of no use here, and what walks through them recursively would run out of stack. */
export const MAX_DEPTH = 100;

/** `undefined` for no body. Rejects with `unsupported_media_type`, `payload_too_large` or `invalid_input`. */
export async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  const text = await readText(request, maxBytes);
  if (text === undefined) return undefined;
  const mediaType = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (mediaType !== "application/json")
    throw new HttpError("unsupported_media_type", { accept: "application/json" });
  if (jsonDepth(text) > MAX_DEPTH)
    throw new DurableInvalidInputError(
      "body",
      `is nested too deeply; at most ${MAX_DEPTH} levels are allowed`,
    );
  const value = parse(text);
  refuseProto(text, value);
  return value;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new DurableInvalidInputError("body", "must be JSON");
  }
}

async function readText(request: Request, maxBytes: number): Promise<string | undefined> {
  if (request.body === null) return undefined;
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = (request.body as ReadableStream<Uint8Array>).getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.byteLength;
    if (size > maxBytes) {
      await reader.cancel();
      throw tooLarge(maxBytes);
    }
    chunks.push(next.value);
  }
  return size === 0 ? undefined : decode(chunks);
}

function decode(chunks: readonly Uint8Array[]): string {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  try {
    return chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join("") + decoder.decode();
  } catch {
    throw new DurableInvalidInputError("body", "must be UTF-8");
  }
}

function tooLarge(maxBytes: number): DurablePayloadError {
  return new DurablePayloadError(`the body has more than ${maxBytes} bytes`, "payload_too_large");
}

/**
 * Refuses an own key `__proto__`, which copies would take for the prototype, and so lose. Most texts show at once that they
 * have none: it would be there as it is, or escaped.
 */
function refuseProto(text: string, value: unknown): void {
  if (!text.includes("__proto__") && !text.includes("\\u00")) return;
  const open: unknown[] = [value];
  while (open.length > 0) {
    const next = open.pop();
    if (typeof next !== "object" || next === null) continue;
    if (Object.hasOwn(next, "__proto__"))
      throw new DurableInvalidInputError("body", "must have no key __proto__");
    for (const inner of Object.values(next)) open.push(inner);
  }
}
