/** Instants as history is given them: ISO-8601 texts. */
import { DurableInvalidInputError } from "../contract/errors.ts";

/** A date alone is its midnight in UTC; a time has to say its zone, for what it would mean without depends on the machine. */
const ISO_INSTANT = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** Epoch milliseconds. Throws `invalid_input` that names the field. */
export function instantOf(field: string, value: unknown): number {
  const instant = typeof value === "string" && ISO_INSTANT.test(value) ? Date.parse(value) : NaN;
  if (Number.isNaN(instant) || !isDay(String(value).slice(0, 10))) {
    throw new DurableInvalidInputError(field, 'must be an ISO-8601 instant, such as "2026-01-31T12:00:00Z"');
  }
  return instant;
}

/** A month has its own number of days, though `Date.parse` counts on into the next. */
function isDay(date: string): boolean {
  return new Date(Date.parse(date)).toISOString().startsWith(date);
}
