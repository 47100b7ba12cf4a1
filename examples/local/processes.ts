/** Process groups, for starting a runtime that can be killed as a whole. POSIX only. */
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { basename } from "node:path";
import { promisify } from "node:util";

export interface ProcessInfo {
  pid: number;
  command: string;
}

/** The live members of a group. One that is dead and not yet reaped by its parent does not count. */
export async function groupMembers(pgid: number): Promise<ProcessInfo[]> {
  const all = process.platform === "linux" ? await fromProc() : await fromPs();
  const members = all.filter((entry) => entry.pgid === pgid && !entry.state.startsWith("Z"));
  return Promise.all(
    members.map(async ({ pid, command }) => ({ pid, command: await programOf(pid, command) })),
  );
}

/** Sends a signal to each member of a group. False when there is none left. */
export function signalGroup(pgid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(-pgid, signal);
  } catch {
    return false;
  }
}

/** Resolves once no member is left, to whether that was within the time. */
export async function groupIsGone(pgid: number, withinMs: number): Promise<boolean> {
  const deadline = Date.now() + withinMs;
  while ((await groupMembers(pgid)).length > 0) {
    if (Date.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

interface Entry extends ProcessInfo {
  pgid: number;
  state: string;
}

async function fromProc(): Promise<Entry[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const entries = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")));
  return entries.flatMap((line) => {
    // pid (command) state ppid pgrp …; the command may hold blanks and parentheses.
    const match = /^(\d+) \((.*)\) (\S) \d+ (\d+)/s.exec(line);
    if (match === null) return [];
    return [
      { pid: Number(match[1]), command: match[2] ?? "", state: match[3] ?? "", pgid: Number(match[4]) },
    ];
  });
}

/** What was started, where the system tells; a process may rename itself. */
async function programOf(pid: number, command: string): Promise<string> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return basename(commandLine.split("\0")[0] || command);
}

async function fromPs(): Promise<Entry[]> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,pgid=,stat=,comm="]);
  return stdout.split("\n").flatMap((line) => {
    const match = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line);
    if (match === null) return [];
    return [
      { pid: Number(match[1]), pgid: Number(match[2]), state: match[3] ?? "", command: match[4] ?? "" },
    ];
  });
}
