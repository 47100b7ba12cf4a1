/**
 * Large bodies in SQL (R22): inline up to 256 KiB of UTF-8, in chunks above that.
 *
 * A ref is `<hash>/<bytes>/<chunks>`, made of the content: to write a body again, in a repeated request or for another
 * step, writes nothing, and no two bodies can get mixed up.
 */
import { byteLength } from "../../contract/limits.ts";
import { sha256Hex } from "../../identity.ts";
import type { Request } from "../../ledger/requests.ts";
import { bodyOf, withBody } from "../../ledger/requests.ts";

const INLINE_BYTES = 256 * 1_024;

/** Half of what D1 takes in one value (2,000,000 bytes). https://developers.cloudflare.com/d1/platform/limits/ */
const CHUNK_BYTES = 1_000_000;

export interface Chunk {
  readonly ref: string;
  readonly chunk: number;
  readonly text: string;
}

/** The request with its large body as a ref, and the chunks that the ref stands for; a small request as it is. */
export function splitBody<R extends Request>(request: R): { request: R; chunks: Chunk[] } {
  const body = bodyOf(request);
  if (body === null || !("text" in body) || isInline(body.text)) return { request, chunks: [] };
  const texts = splitText(body.text);
  const ref = `${sha256Hex(body.text)}/${byteLength(body.text)}/${texts.length}`;
  return { request: withBody(request, { ref }), chunks: texts.map((text, chunk) => ({ ref, chunk, text })) };
}

/** How many chunks a ref stands for. */
export function chunkCount(ref: string): number {
  return Number(ref.split("/")[2]);
}

/** How many bytes of UTF-8 a ref stands for. */
export function refBytes(ref: string): number {
  return Number(ref.split("/")[1]);
}

/** The body that chunks `first` and on of a ref are part of. Throws when they are not all there. */
export function joinChunks(ref: string, first: number, end: number, texts: readonly string[]): string {
  if (texts.length === end - first) return texts.join("");
  throw new Error(`body ${ref} has lost chunks: ${texts.length} of ${first} to ${end - 1} are there`);
}

/** Small enough to lie in its row, and to go in a message as it is. */
export function isInline(text: string): boolean {
  return text.length <= INLINE_BYTES && (text.length * 3 <= INLINE_BYTES || byteLength(text) <= INLINE_BYTES);
}

/** Pieces of at most CHUNK_BYTES of UTF-8, cut between characters. */
function splitText(text: string): string[] {
  const encoder = new TextEncoder();
  const piece = new Uint8Array(CHUNK_BYTES);
  const pieces: string[] = [];
  for (let at = 0; at < text.length;) {
    const { read } = encoder.encodeInto(text.slice(at, at + CHUNK_BYTES), piece);
    // A surrogate pair cut by the slice is left for the next piece.
    const end = at + read;
    const cutsPair = end < text.length && isHighSurrogate(text, end - 1);
    const stop = cutsPair ? end - 1 : end;
    pieces.push(text.slice(at, stop));
    at = stop;
  }
  return pieces;
}

function isHighSurrogate(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff;
}
