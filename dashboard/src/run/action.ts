/** What may be done to a run from its page. */
export type Action =
  | { does: "emit"; key?: string }
  | { does: "cancel" }
  | { does: "resolve"; stepIndex: number };

/** Whether an event of this key is what people call an approval. */
export function isApproval(key: string): boolean {
  return /approv/i.test(key);
}
