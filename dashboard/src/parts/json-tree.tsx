/**
 * JSON of any size as a tree that folds. Everything in it is text.
 *
 * What is folded is not in the page, long lists come a hundred at a time, and long strings are cut until asked for: so
 * a megabyte opens as quickly as a line.
 */
import { useState } from "preact/hooks";

const ITEMS_AT_ONCE = 100;
const TEXT_AT_ONCE = 400;
/** Trees of fewer values than this are open from the start. */
const OPEN_BELOW = 30;

export function JsonTree({ value, label }: { value: unknown; label: string }) {
  return (
    <div class="json" role="group" aria-label={label}>
      <div class="json-tools">
        <CopyButton text={() => JSON.stringify(value, null, 2) ?? "undefined"} what={label} />
      </div>
      <Value value={value} isOpen={hasFewer(value, OPEN_BELOW)} isRoot />
    </div>
  );
}

interface ValueProps {
  name?: string;
  value: unknown;
  isOpen?: boolean;
  isRoot?: boolean;
}

function Value({ name, value, isOpen = false, isRoot = false }: ValueProps) {
  if (typeof value !== "object" || value === null) {
    return (
      <div class="json-line">
        <Name name={name} />
        <Scalar value={value} />
      </div>
    );
  }
  return <Branch {...(name !== undefined && { name })} value={value} isOpen={isOpen} isRoot={isRoot} />;
}

function Branch({ name, value, isOpen = false, isRoot = false }: ValueProps & { value: object }) {
  const [isShown, setShown] = useState(isOpen || isRoot);
  const [count, setCount] = useState(ITEMS_AT_ONCE);
  const isList = Array.isArray(value);
  const keys = Object.keys(value);
  const size = isList ? `[${keys.length}]` : `{${keys.length}}`;
  if (keys.length === 0) {
    return (
      <div class="json-line">
        <Name name={name} />
        <span class="muted">{isList ? "[]" : "{}"}</span>
      </div>
    );
  }
  return (
    <details open={isShown} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>
        <Name name={name} />
        <span class="muted">{size}</span>
        {!isShown && (
          <span class="json-preview">{isList ? "" : keys.slice(0, 4).join(", ").slice(0, 60)}</span>
        )}
      </summary>
      {isShown && (
        <div class="json-children">
          {keys.slice(0, count).map((key) => (
            <Value key={key} name={key} value={(value as Record<string, unknown>)[key]} isOpen={isOpen} />
          ))}
          {keys.length > count && (
            <button type="button" class="link" onClick={() => setCount(count + ITEMS_AT_ONCE)}>
              {Math.min(ITEMS_AT_ONCE, keys.length - count)} more of {keys.length - count}
            </button>
          )}
        </div>
      )}
    </details>
  );
}

function Name({ name }: { name: string | undefined }) {
  return name === undefined ? null : <span class="json-name">{name}: </span>;
}

function Scalar({ value }: { value: unknown }) {
  const [isWhole, setWhole] = useState(false);
  if (typeof value !== "string") return <span class={`json-${typeof value}`}>{String(value)}</span>;
  const text = JSON.stringify(value);
  if (isWhole || text.length <= TEXT_AT_ONCE) return <span class="json-string">{text}</span>;
  return (
    <span class="json-string">
      {text.slice(0, TEXT_AT_ONCE)}…{" "}
      <button type="button" class="link" onClick={() => setWhole(true)}>
        all {value.length.toLocaleString("en")} characters
      </button>
    </span>
  );
}

export function CopyButton({ text, what }: { text: () => string; what: string }) {
  const [isDone, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(text());
    setDone(true);
    setTimeout(() => setDone(false), 1_500);
  };
  return (
    <button type="button" class="link copy" aria-label={`Copy ${what}`} onClick={() => void copy()}>
      {isDone ? "Copied" : "Copy"}
    </button>
  );
}

/** Whether a value has fewer than `limit` values in it. Looks no further than that. */
function hasFewer(value: unknown, limit: number): boolean {
  let left = limit;
  const walk = (part: unknown): void => {
    left -= 1;
    if (typeof part !== "object" || part === null) return;
    for (const child of Object.values(part)) {
      if (left <= 0) return;
      walk(child);
    }
  };
  walk(value);
  return left > 0;
}
