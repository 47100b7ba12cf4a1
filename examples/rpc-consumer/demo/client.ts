/** What the demo and its tests ask the consumer, over HTTP. */
import { setTimeout as sleep } from "node:timers/promises";
import type { StepRecord } from "../../../src/index.ts";

export interface Shown {
  run: { status: string; takeovers?: number; fence?: number };
  steps: StepRecord[];
}

/** Of a run that was finished, or of an error. */
export interface Posted {
  code?: string;
  result?: string;
}

const PATIENCE_MS = 90_000;
const LOST_MS = 20_000;

/** Begins the run, or goes on with it. */
export async function post(url: string, items: readonly string[]): Promise<Posted> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify({ items }) });
  return (await response.json()) as Posted;
}

export async function get<T>(url: string): Promise<T> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answers ${response.status}: ${await response.text()}`);
  return (await response.json()) as T;
}

export function completed({ steps }: Shown): StepRecord[] {
  return steps.filter(({ status }) => status === "completed");
}

/** A run that is being worked on. */
export interface Begun {
  /** As history showed it, once enough steps had completed. */
  readonly shown: Shown;
  /** What the request that works on it comes to: nothing when its answer is lost. */
  readonly answer: Promise<Posted | undefined>;
}

/**
 * Begins the run and answers once so many steps have completed. Asks again where a request was refused or lost: nothing has
 * come of it for {@link LOST_MS}.
 */
export async function beginUntilPacked(url: string, items: readonly string[], count: number): Promise<Begun> {
  let asked: { readonly at: number; readonly answer: Promise<Posted | undefined> } | undefined;
  let shown: Shown | undefined;
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(50)) {
    asked ??= { at: Date.now(), answer: post(url, items).catch(() => undefined) };
    shown = await get<Shown>(url).catch(() => undefined);
    const done = shown === undefined ? 0 : completed(shown).length;
    if (shown !== undefined && done >= count) return { shown, answer: asked.answer };
    const isLost = done === 0 && Date.now() - asked.at > LOST_MS;
    if (isLost || (await hasEnded(asked.answer))) asked = undefined;
  }
  throw new Error(`${count} steps were not packed in time: ${JSON.stringify(shown)}`);
}

/** Whether it has settled by now. */
async function hasEnded(answer: Promise<unknown>): Promise<boolean> {
  const notYet = {};
  return (await Promise.race([answer, Promise.resolve(notYet)])) !== notYet;
}

const ASK_AGAIN = ["lease_held", "lease_lost", "store_unavailable"];

/** Asks until the lease of the worker that died has lapsed, and whoever has the runs answers again. */
export async function untilFinished(url: string, items: readonly string[]): Promise<Posted> {
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(200)) {
    const answer = await post(url, items);
    if (answer.code === undefined) return answer;
    if (!ASK_AGAIN.includes(answer.code)) throw new Error(JSON.stringify(answer));
  }
  throw new Error("the run could not be taken over in time");
}

/** Which of the steps that were on record were run again or changed. */
export function runAgain(before: Shown, after: Shown): number[] {
  const changed = completed(before).filter((step) => {
    const now = after.steps.find(({ stepIndex }) => stepIndex === step.stepIndex);
    return now?.completedAt !== step.completedAt || now?.attempts !== step.attempts;
  });
  return changed.map(({ stepIndex }) => stepIndex);
}
