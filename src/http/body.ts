/**
 * JSON out of a request's body, read no further than it may be.
 *
 * What is refused here is refused before it is parsed: too many bytes, text that is no UTF-8, too deep a nesting.
 */
import { DurableInvalidInputError, DurablePayloadError } from "../contract/errors.ts";
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
  if (depthOf(text) > MAX_DEPTH)
    throw new DurableInvalidInputError(
      "body",
      `is nested too deeply; at most ${MAX_DEPTH} levels are allowed`,
    );
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

/** How deep the brackets go, outside strings. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (inString) {
      if (unit === 0x5c) at += 1;
      else if (unit === 0x22) inString = false;
    } else if (unit === 0x22) inString = true;
    else if (unit === 0x5b || unit === 0x7b) deepest = Math.max(deepest, (depth += 1));
    else if (unit === 0x5d || unit === 0x7d) depth -= 1;
  }
  return deepest;
}
