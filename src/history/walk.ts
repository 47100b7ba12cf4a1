/**
 * The one way in which history goes through many runs: a walk along an index, from a key on, of a bounded number of rows,
 * whatever is left out on the way.
 *
 * A walk is made of arms: parts of an index, each in the order of the pages, merged. What an index cannot tell is told by
 * conditions on the rows; then the walk stops after WALK_ROWS of them, and says where. `INDEXED BY` has SQLite refuse the
 * statement rather than scan a table. Knows no question: who asks brings arms, conditions and columns.
 */
import type { Cell } from "../stores/sql/rows.ts";
import type { Access, Statement } from "./access.ts";

/** Rows that one walk looks at. */
export const WALK_ROWS = 500;

/** Long texts that one page may answer, in bytes of UTF-8; a page has one row at least. */
export const PAGE_BYTES = 4_000_000;

/** Before and after all instants. */
export const EVER = { first: -8_640_000_000_000_000, last: 8_640_000_000_000_000 } as const;

export type RunKey = readonly [at: number, runId: string];

/** Part of an index. `r` is the run's row. */
export interface Arm {
  /** What has the key, such as "durable_runs AS r INDEXED BY …". */
  readonly source: string;
  /** Joins the run's row, if the source is not that. */
  readonly join?: string;
  /** The columns of the key. */
  readonly at: string;
  readonly id: string;
  /** What the index itself tells. */
  readonly where: readonly string[];
  /** What the rows of this arm have to tell. */
  readonly conditions?: readonly string[];
}

export interface Walk {
  readonly arms: readonly Arm[];
  readonly order: "ascending" | "descending";
  /** The walk begins after this key. */
  readonly after: RunKey;
  /** The last instant, inclusive downwards, exclusive upwards. */
  readonly until: number;
  /** What the rows of all arms have to tell. */
  readonly conditions: readonly string[];
  readonly limit: number;
  /** How many bytes a row takes up in a page, and what is answered of it. */
  readonly bytes: string;
  readonly columns: string;
}

/** The values of a statement, each under its `?n`. */
export class Params {
  readonly values: Cell[] = [];

  add(value: Cell): string {
    this.values.push(value);
    return `?${this.values.length}`;
  }
}

interface Kept {
  readonly stop_at: number | null;
  readonly stop_id: string | null;
  readonly found: number | null;
  readonly at: number;
  readonly id: string | null;
}

export interface Walked<Row> {
  readonly rows: (Row & { readonly at: number; readonly id: string })[];
  /** Where the next walk begins; `undefined` when nothing is left. */
  readonly next: RunKey | undefined;
}

/** Goes one page far. `params` has the values of the arms and conditions already. */
export async function walk<Row>(access: Access, params: Params, input: Walk): Promise<Walked<Row>> {
  const { sql, values } = statementOf(params, input);
  const answered = await access.query<Row & Kept>(sql, ...values);
  const [first] = answered;
  const rows = answered.filter((row): row is typeof row & { id: string } => row.id !== null);
  const found = first?.found ?? 0;
  const page = rows.slice(0, input.limit);
  const last = page.at(-1);
  if (last && found > page.length) return { rows: page, next: [last.at, last.id] };
  const { stop_at: at, stop_id: id } = first ?? { stop_at: null, stop_id: null };
  return { rows: page, next: at !== null && id ? [at, id] : undefined };
}

function statementOf(params: Params, input: Walk): Statement {
  const { arms, order, conditions, limit, bytes, columns } = input;
  const isBounded = [conditions, ...arms.map((arm) => arm.conditions ?? [])].some(({ length }) => length > 0);
  const [direction, beyond, within] = order === "ascending" ? ["ASC", ">", "<="] : ["DESC", "<", ">="];
  const byKey = `ORDER BY 1 ${direction}, 2 ${direction}`;
  const [afterAt, afterId] = input.after.map((part) => params.add(part));
  // An empty id comes before every other, and so stands for the end of the walk in both directions.
  const end = `${params.add(input.until)}, ''`;
  // Part by part, the id as an expression: of one query, or of another column, SQLite would seek by the instant alone.
  const stop = isBounded ? "(SELECT at FROM stop), +(SELECT id FROM stop)" : end;
  const merged = (select: (arm: Arm) => string): string => arms.map(select).join(" UNION ALL ");
  const begin = ({ at, id, where }: Arm): string =>
    [...where, `(${at}, ${id}) ${beyond} (${afterAt}, ${afterId})`].join(" AND ");
  const stopTable = `stop (at, id) AS MATERIALIZED (
  SELECT * FROM (
    SELECT * FROM (
      ${merged((arm) => `SELECT ${arm.at} AS at, ${arm.id} AS id FROM ${arm.source} WHERE ${begin(arm)}`)}
      ${byKey} LIMIT 1 OFFSET ${WALK_ROWS - 1}
    ) UNION ALL SELECT ${end}
  ) ${byKey} LIMIT 1
),`;
  const page = (arm: Arm): string => `SELECT ${arm.at} AS at, ${arm.id} AS id, ${bytes} AS bytes
  FROM ${arm.source} ${arm.join ?? ""}
  WHERE ${[begin(arm), `(${arm.at}, ${arm.id}) ${within} (${stop})`, ...(arm.conditions ?? []), ...conditions].join(" AND ")}`;
  const sql = `
WITH ${isBounded ? stopTable : ""}
page (at, id, bytes) AS MATERIALIZED (
  ${merged(page)}
  ${byKey} LIMIT ${params.add(limit + 1)}
),
kept AS MATERIALIZED (
  SELECT at, id, count(*) OVER () AS found,
    sum(bytes) OVER (ORDER BY at ${direction}, id ${direction}) - bytes AS bytes_before
  FROM page
)
SELECT ${isBounded ? "stop.at AS stop_at, stop.id AS stop_id" : "NULL AS stop_at, NULL AS stop_id"},
  kept.found, kept.at, kept.id, ${columns}
FROM ${isBounded ? "stop LEFT JOIN kept ON" : "kept CROSS JOIN durable_runs AS r ON r.run_id = kept.id WHERE"}
  kept.bytes_before < ${PAGE_BYTES}
${isBounded ? "LEFT JOIN durable_runs AS r ON r.run_id = kept.id" : ""}
ORDER BY kept.at ${direction}, kept.id ${direction}`;
  return { sql, values: params.values };
}
