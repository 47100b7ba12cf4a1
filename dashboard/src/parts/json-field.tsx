/** A field for JSON that says where it is wrong as one types. */
import { useId } from "preact/hooks";

interface JsonFieldProps {
  label: string;
  value: string;
  rows?: number;
  onValue: (text: string) => void;
}

export function JsonField({ label, value, rows = 6, onValue }: JsonFieldProps) {
  const id = useId();
  const problem = jsonProblem(value);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea
        id={id}
        rows={rows}
        spellcheck={false}
        value={value}
        aria-invalid={problem !== undefined}
        aria-describedby={`${id}-problem`}
        onInput={(event) => onValue(event.currentTarget.value)}
      />
      <p id={`${id}-problem`} class="field-problem" role="status">
        {problem ?? ""}
      </p>
    </div>
  );
}

function jsonProblem(text: string): string | undefined {
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return text.trim() === "" ? "JSON is missing." : `No JSON yet: ${(error as Error).message}`;
  }
}

/** Throws with what is wrong, for people. */
export function parseJson(text: string, what: string): unknown {
  const problem = jsonProblem(text);
  if (problem !== undefined) throw new Error(`${what}: ${problem}`);
  return JSON.parse(text) as unknown;
}
