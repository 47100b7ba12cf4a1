/** The peers of `npm run bench:peers`: each is started if it is installed, and named as left out if it is not. */
import type { ClosableSubject, PeersModule } from "../lib/subjects.ts";

export interface StartedPeer {
  readonly subject: ClosableSubject;
  readonly version: string;
}

type Start = (folder: string) => Promise<StartedPeer>;

const PEERS: readonly (readonly [name: string, load: () => Promise<Start>])[] = [
  ["Restate", async () => (await import("./restate.ts")).startRestate],
  ["DBOS", async () => (await import("./dbos.ts")).startDbos],
  ["Absurd", async () => (await import("./absurd.ts")).startAbsurd],
];

export const startPeers: PeersModule["startPeers"] = async (folder) => {
  const subjects: ClosableSubject[] = [];
  const notes: string[] = [];
  for (const [name, load] of PEERS) {
    try {
      const start = await load();
      const { subject, version } = await start(folder);
      subjects.push(subject);
      notes.push(`${name} ${version}`);
    } catch (error) {
      notes.push(`${name} left out (${error instanceof Error ? error.message : String(error)})`);
    }
  }
  return { subjects, notes };
};
