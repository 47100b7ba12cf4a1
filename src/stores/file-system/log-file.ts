/**
 * One append-only file of lines, shared by the processes of one machine.
 *
 * Owns bytes: where lines begin and end, what has been taken in, what has reached the disk. Relies on a local file
 * system, where a write to a file opened for appending lands whole at its end, or is cut short (not so on NFS). Must
 * not know what a line says: that is the fold's.
 *
 * Invariants:
 * 1. Bytes that stand in the file never change, so that all who read it see the same lines in the same order.
 * 2. A line is what a newline ends. What a crash has cut short is no line; the next append ends it, and the fold sees
 *    garbage.
 * 3. Each line is taken in once. Only what was added since is read.
 * 4. From reading to appending to reading back is one synchronous block, so that callers within a process never race.
 *    A call that the page cache answers costs a tenth of a trip to the thread pool. The disk is awaited.
 */
import { randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { DurableStoreUnavailableError } from "../../contract/errors.ts";
import { isMissing, unavailable } from "./errors.ts";
import type { Place } from "./read-lines.ts";
import { readLines } from "./read-lines.ts";

/** What a log's lines add up to. */
export interface Fold {
  /** Forgets all lines. */
  clear(): void;
  /** Takes in the next line. Answers its nonce when it counts; a line that does not count changes nothing. */
  take(text: string, place: Place): string | null;
}

/** What a caller would do to the log as its fold stands. */
export interface Proposal {
  /** The line to append, which carries the nonce; `null` to append nothing. */
  readonly line: string | null;
  /** Whether all that the fold has taken in must be on disk before the caller goes on. */
  readonly sync: boolean;
}

const READ = constants.O_RDONLY;
const APPEND = constants.O_RDWR | constants.O_APPEND;
const CREATE = APPEND | constants.O_CREAT;

/** Each lost race is another writer's progress, so this many in a row mean a file system that does not append. */
const MAX_LOST_RACES = 1_000;

const NO_FILE = "";

const syncData = promisify(fdatasync);

export class LogFile {
  readonly #path: string;
  readonly #fold: Fold;
  /** Which file the lines were taken from. */
  #identity = NO_FILE;
  /** Up to where lines have been taken in. */
  #offset = 0;
  #tornTail = false;
  #syncedOffset = 0;
  /** The topmost of the directories that were made for this log. */
  #madeDirectory: string | undefined;

  constructor(path: string, fold: Fold) {
    this.#path = path;
    this.#fold = fold;
  }

  /** Takes in what others have added. A log that does not exist is empty. */
  refresh(): void {
    this.#whileOpen((file) => this.#catchUp(file));
  }

  /** The text of a line that was taken in earlier, or `null` when the file is gone or shorter. */
  read({ offset, length }: Place): string | null {
    return this.#whileOpen((file) => {
      const bytes = Buffer.alloc(length);
      const bytesRead = file === null ? 0 : readSync(file, bytes, 0, length, offset);
      return bytesRead < length ? null : bytes.toString("utf8");
    });
  }

  /**
   * Compare and append: asks for a proposal over the log as it stands and appends its line; when another writer came
   * in between, takes in what that one wrote and asks again. Creates the log with its first line.
   *
   * After `store_unavailable` the line may stand or not, and is harmless if it stands in part.
   */
  async commit(propose: (nonce: string) => Proposal): Promise<void> {
    let file: number | null = null;
    try {
      file = openExisting(this.#path, APPEND);
      this.#catchUp(file);
      for (let lost = 0; lost < MAX_LOST_RACES; lost++) {
        const nonce = randomUUID();
        const { line, sync } = propose(nonce);
        if (line !== null) this.#append((file ??= this.#create()), line);
        if (line === null || this.#catchUp(file, nonce)) {
          if (sync && file !== null) await this.#sync(file);
          return;
        }
      }
      throw new DurableStoreUnavailableError(
        `${MAX_LOST_RACES} appends to ${this.#path} in a row did not count. Is it on a local file system?`,
      );
    } catch (error) {
      throw unavailable(error, this.#path);
    } finally {
      if (file !== null) closeSync(file);
    }
  }

  /** Takes in what was added since. Answers whether the line with the nonce counts, if it is among that. */
  #catchUp(file: number | null, own?: string): boolean {
    const { identity, size } = file === null ? { identity: NO_FILE, size: 0 } : describeFile(file);
    // Another file, or a shorter one, is another log: somebody deleted or restored it.
    if (identity !== this.#identity || size < this.#offset) this.#restart(identity);
    if (file === null) return false;
    let counts = false;
    for (const { text, place } of readLines(file, this.#offset, size)) {
      const nonce = this.#fold.take(text, place);
      if (nonce !== null && nonce === own) counts = true;
      this.#offset = place.offset + place.length + 1;
    }
    this.#tornTail = this.#offset < size;
    return counts;
  }

  /**
   * In one write, so that lines of several writers never mix. When it is cut short, the line does not count, and the
   * next try says why.
   */
  #append(file: number, line: string): void {
    const bytes = Buffer.from(this.#tornTail ? `\n${line}\n` : `${line}\n`);
    writeSync(file, bytes, 0, bytes.length, null);
  }

  #create(): number {
    this.#madeDirectory = mkdirSync(dirname(this.#path), { recursive: true });
    return openSync(this.#path, CREATE);
  }

  /** Brings to disk every line taken in so far and, at first, the directories that lead to them. */
  async #sync(file: number): Promise<void> {
    const upTo = this.#offset;
    if (this.#syncedOffset >= upTo) return;
    const directories = this.#syncedOffset === 0 ? this.#directories() : [];
    await Promise.all([syncData(file), ...directories.map((path) => syncDirectory(path))]);
    this.#syncedOffset = Math.max(this.#syncedOffset, upTo);
  }

  /**
   * From the run's own up to the root, also when another process made them: it may have died before it synced them.
   * And further up, what was made here.
   */
  #directories(): string[] {
    const directory = dirname(this.#path);
    const last = dirname(this.#madeDirectory ?? directory);
    const paths = [directory];
    for (let path = directory; path !== last;) paths.push((path = dirname(path)));
    return paths;
  }

  #restart(identity: string): void {
    this.#fold.clear();
    this.#identity = identity;
    this.#offset = 0;
    this.#syncedOffset = 0;
    this.#tornTail = false;
  }

  #whileOpen<T>(work: (file: number | null) => T): T {
    let file: number | null = null;
    try {
      file = openExisting(this.#path, READ);
      return work(file);
    } catch (error) {
      throw unavailable(error, this.#path);
    } finally {
      if (file !== null) closeSync(file);
    }
  }
}

function openExisting(path: string, flags: number): number | null {
  try {
    return openSync(path, flags);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** A new file may have the inode of a deleted one, but then it is younger. */
function describeFile(file: number): { identity: string; size: number } {
  const { ino, birthtimeMs, size } = fstatSync(file);
  return { identity: `${ino}:${birthtimeMs}`, size };
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a directory; NTFS journals its entries.
  if (process.platform === "win32") return;
  const directory = await open(path, READ);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
