/**
 * The summary of an audit: by a language model where one is configured, by a plain local method otherwise.
 *
 * Owns both, and the sentence that says which one it was. Asks a model once: whether it is asked again, and what happens
 * when it does not answer, is the agent's to say. The key goes into one header and nowhere else.
 */
import { NonRetryableError } from "../../src/contract/errors.ts";
import type { Fetch } from "./http.ts";
import { plural, squeeze } from "./text.ts";
import type { AuditedPage, LinkReport, Summary } from "./types.ts";

export interface Draft {
  site: string;
  pages: readonly AuditedPage[];
  links: LinkReport;
}

export type Summarise = (draft: Draft, signal: AbortSignal) => Promise<Summary>;

export interface ModelConfig {
  OPENAI_BASE_URL?: string;
  OPENAI_API_KEY?: string;
  /** Default "gpt-4o-mini". */
  OPENAI_MODEL?: string;
}

const LOCAL_SENTENCES = 4;

/**
 * A model at an OpenAI-compatible endpoint when both the address and the key are set, else the local method. Rejects when
 * the model does not answer; with a NonRetryableError, where asking again would not help.
 */
export function summariser(config: ModelConfig, fetch: Fetch): Summarise {
  const { OPENAI_BASE_URL: baseUrl, OPENAI_API_KEY: key } = config;
  if (!baseUrl || !key) {
    const why = "no OPENAI_BASE_URL and OPENAI_API_KEY are set";
    return async (draft) => localSummary(draft, why);
  }
  const model = config.OPENAI_MODEL || "gpt-4o-mini";
  return async (draft, signal) => {
    const text = await askModel({ baseUrl, key, model, fetch }, draft, signal);
    return { text, by: `${model} at ${new URL(baseUrl).host}`, local: false };
  };
}

interface Model {
  baseUrl: string;
  key: string;
  model: string;
  fetch: Fetch;
}

async function askModel(model: Model, draft: Draft, signal: AbortSignal): Promise<string> {
  const messages = [
    {
      role: "system",
      content:
        "You report on audits of web sites. In at most 120 words of plain text, say what the site is about, how it is " +
        "built up, and what its owner should mend first. Use only what you are given.",
    },
    { role: "user", content: JSON.stringify(brief(draft)) },
  ];
  const body = JSON.stringify({ model: model.model, messages, temperature: 0 });
  const response = await model.fetch(`${model.baseUrl.replace(/\/+$/, "")}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${model.key}`, "content-type": "application/json" },
    body,
    signal,
  });
  if (response.ok) return contentOf(await response.json());
  await response.body?.cancel();
  const problem = `${model.model} did not answer: HTTP ${response.status}`;
  const isPassing = response.status === 429 || response.status >= 500;
  throw isPassing ? new Error(problem) : new NonRetryableError(problem);
}

function contentOf(answer: unknown): string {
  const choices = (answer as { choices?: { message?: { content?: unknown } }[] } | null)?.choices;
  const content = Array.isArray(choices) ? choices[0]?.message?.content : undefined;
  if (typeof content !== "string" || content.trim() === "") throw new Error("an answer without a message");
  return content.trim();
}

/** What the model is told: an outline, not the pages themselves. */
function brief({ site, pages, links }: Draft): unknown {
  return {
    site,
    pages: pages.map(({ url, status, reason, facts }) => ({
      url,
      status,
      ...(facts === null
        ? { reason }
        : {
            title: facts.title,
            words: facts.words,
            headings: facts.headings.slice(0, 12).map(({ text }) => text),
            opening: facts.paragraphs.slice(0, 2),
          }),
    })),
    brokenLinks: links.broken.slice(0, 30).map(({ target, reason, usedOn }) => ({ target, reason, usedOn })),
  };
}

/** The facts in a sentence, then the sentences of the pages' openings that share most words with the rest. */
export function localSummary(draft: Draft, why: string): Summary {
  const { pages, links } = draft;
  const read = pages.flatMap(({ facts }) => (facts === null ? [] : [facts]));
  const words = read.reduce((sum, facts) => sum + facts.words, 0);
  const first =
    `${plural(pages.length, "page")} with ${plural(words, "word")}; ${plural(links.targets, "link target")}, ` +
    `${links.broken.length} broken.`;
  const sentences = read.flatMap((facts) => facts.paragraphs.slice(0, 2)).flatMap(splitSentences);
  const text = [first, ...bestSentences(sentences, LOCAL_SENTENCES)].join(" ");
  return { text, by: `local extractive summary, no model was asked (${why})`, local: true };
}

function splitSentences(paragraph: string): string[] {
  const sentences = paragraph.match(/[^.!?]+(?:[.!?]+(?=\s|$)|[.!?]+(?=\S)[^.!?]*)*[.!?]*/g) ?? [];
  return sentences.map(squeeze).filter((sentence) => sentence.length >= 40 && sentence.length <= 300);
}

/** Scored by how common their words are among all sentences (Luhn, 1958), and given in the order of the text. */
function bestSentences(sentences: readonly string[], count: number): string[] {
  const unique = [...new Set(sentences)];
  const frequency = new Map<string, number>();
  for (const sentence of unique) {
    for (const word of contentWords(sentence)) frequency.set(word, (frequency.get(word) ?? 0) + 1);
  }
  const scored = unique.map((sentence, at) => {
    const words = contentWords(sentence);
    const sum = words.reduce((total, word) => total + (frequency.get(word) ?? 0), 0);
    return { sentence, at, score: sum / Math.max(8, words.length) };
  });
  return scored
    .toSorted((a, b) => b.score - a.score || a.at - b.at)
    .slice(0, count)
    .toSorted((a, b) => a.at - b.at)
    .map(({ sentence }) => sentence);
}

function contentWords(sentence: string): string[] {
  return sentence.toLowerCase().match(/\p{L}{4,}/gu) ?? [];
}
