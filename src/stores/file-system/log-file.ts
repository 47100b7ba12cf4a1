/**
 * One append-only file of lines, shared by the processes of one machine.
 *
 * Owns bytes: where lines begin and end, what has been taken in, what has reached the disk. Relies on a local file
 * system where a write to a file opened for appending lands whole at its end, or is cut short (not so on NFS). Must not
 * know what a line says: that is the fold's.
 *
 * Invariants:
 * 1. Bytes that stand in the file never change, so that all who read it see the same lines in the same order.
 * 2. A line is what a newline ends. What a crash cut short is no line; the next append ends it, and the fold sees
 *    garbage.
 * 3. Each line is taken in once. Only what was added since is read.
 * 4. Operations on one log run one after another, and the file is open only meanwhile.
 */
import { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
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

const FLAGS = {
  read: constants.O_RDONLY,
  append: constants.O_RDWR | constants.O_APPEND,
  create: constants.O_RDWR | constants.O_APPEND | constants.O_CREAT,
};

export class LogFile {
  readonly #path: string;
  readonly #fold: Fold;
  #turn: Promise<unknown> = Promise.resolve();
  #handle: FileHandle | null = null;
  #inode = 0;
  /** Up to where lines have been taken in. */
  #offset = 0;
  #tornTail = false;
  #syncedOffset = 0;

  constructor(path: string, fold: Fold) {
    this.#path = path;
    this.#fold = fold;
  }

  /**
   * Runs an operation after those before it, over the log as it now stands. A log that does not exist is empty; only
   * {@link append} creates it.
   */
  use<T>(mode: "read" | "append", operation: () => T | Promise<T>): Promise<T> {
    return this.#inTurn(mode, async () => {
      await this.catchUp();
      return operation();
    });
  }

  /** The text of a line that was taken in earlier, or `null` when the file no longer has it. */
  read(place: Place): Promise<string | null> {
    return this.#inTurn("read", async () => {
      if (this.#handle === null) return null;
      const bytes = Buffer.alloc(place.length);
      const { bytesRead } = await this.#handle.read(bytes, 0, place.length, place.offset);
      return bytesRead < place.length ? null : bytes.toString("utf8");
    });
  }

  /** Waits for the operations under way. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /** Within an operation: takes in what was added. Answers the nonces of the lines that count. */
  async catchUp(): Promise<Set<string>> {
    const { ino, size } = this.#handle === null ? { ino: 0, size: 0 } : await this.#handle.stat();
    // Another file, or a shorter one, is another log: somebody deleted or restored it.
    if (ino !== this.#inode || size < this.#offset) this.#restart(ino);
    const counted = new Set<string>();
    if (this.#handle === null) return counted;
    for await (const { text, place } of readLines(this.#handle, this.#offset, size)) {
      const nonce = this.#fold.take(text, place);
      if (nonce !== null) counted.add(nonce);
      this.#offset = place.offset + place.length + 1;
    }
    this.#tornTail = this.#offset < size;
    return counted;
  }

  /**
   * Within an operation: adds a line, in one write, so that it never mixes with another writer's. Whether it counts is
   * known after {@link catchUp}.
   */
  async append(line: string): Promise<void> {
    this.#handle ??= await this.#create();
    const bytes = Buffer.from(this.#tornTail ? `\n${line}\n` : `${line}\n`);
    const { bytesWritten } = await this.#handle.write(bytes, 0, bytes.length, null);
    // The rest must not follow in a second write: another writer may have come in between.
    if (bytesWritten < bytes.length) {
      throw new DurableStoreUnavailableError(
        `only ${bytesWritten} of ${bytes.length} bytes could be appended to ${this.#path}: is the disk full?`,
      );
    }
  }

  /** Within an operation: brings to disk every line taken in so far, and the directories that lead to it. */
  async sync(): Promise<void> {
    if (this.#handle === null || this.#syncedOffset >= this.#offset) return;
    await this.#handle.datasync();
    if (this.#syncedOffset === 0) {
      // Also when another process made them: it may have died before it synced them.
      const directory = dirname(this.#path);
      await Promise.all([syncDirectory(directory), syncDirectory(dirname(directory))]);
    }
    this.#syncedOffset = this.#offset;
  }

  #inTurn<T>(mode: "read" | "append", operation: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#whileOpen(mode, operation));
    this.#turn = result.catch(() => {});
    return result.catch((error: unknown) => Promise.reject(unavailable(error, this.#path)));
  }

  async #whileOpen<T>(mode: "read" | "append", operation: () => Promise<T>): Promise<T> {
    try {
      this.#handle = await openExisting(this.#path, FLAGS[mode]);
      return await operation();
    } finally {
      const handle = this.#handle;
      this.#handle = null;
      await handle?.close();
    }
  }

  async #create(): Promise<FileHandle> {
    const directory = dirname(this.#path);
    const firstMade = await mkdir(directory, { recursive: true });
    // The run's directory and the root are synced with the first line; what lies above is synced here.
    for (let made = dirname(directory); firstMade && made.length >= firstMade.length; made = dirname(made)) {
      await syncDirectory(dirname(made));
    }
    return open(this.#path, FLAGS.create);
  }

  #restart(inode: number): void {
    this.#fold.clear();
    this.#inode = inode;
    this.#offset = 0;
    this.#syncedOffset = 0;
    this.#tornTail = false;
  }
}

async function openExisting(path: string, flags: number): Promise<FileHandle | null> {
  try {
    return await open(path, flags);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a directory; NTFS journals its entries.
  if (process.platform === "win32") return;
  const directory = await open(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
