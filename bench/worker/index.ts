/**
 * The Worker that is measured: its stores, floors and peers, carried out one message at a time over a WebSocket, so
 * that the harness can take the time from outside with no more than a message's way in between.
 */
import type { LineAnswer, LineRequest, OperationName } from "../works/protocol.ts";
import { countCosts } from "./counted.ts";
import type { BenchEnv } from "./env.ts";
import type { FloorName, FloorParams } from "./floors.ts";
import { runFloor } from "./floors.ts";
import type { HistoryOperation } from "./history.ts";
import { onHistory } from "./history.ts";
import { subjectsOf } from "./subjects.ts";

export { RunCoordinator } from "../../src/coordinator/run-coordinator.ts";
export { RunRecorder } from "../../src/coordinator/run-recorder.ts";
export { RunService } from "../../src/service/run-service.ts";
export { CountedCoordinator, CountedGroupedCoordinator, CountedRecorder, CountedService } from "./counted.ts";
export { Floor } from "./floors.ts";
export { GroupedCoordinator } from "./grouped.ts";
export { BenchWorkflow, Marks } from "./workflow.ts";

export default {
  fetch(_request: Request, env: BenchEnv): Response {
    const { 0: client, 1: server } = new WebSocketPair();
    const subjects = subjectsOf(env);
    const carryOut = async ({ subject, operation, params }: LineRequest): Promise<unknown> => {
      if (subject === "floors") return runFloor(env, operation as FloorName, params as FloorParams);
      if (subject === "history") return onHistory(env, operation as HistoryOperation, params as object);
      if (subject === "counts") return countCosts(env);
      const works = subjects.get(subject);
      if (works === undefined) throw new Error(`no subject "${subject}"`);
      return works[operation as OperationName](params as never);
    };
    server.accept();
    server.addEventListener("message", ({ data }) => {
      const request = JSON.parse(String(data)) as LineRequest;
      const answer = (more: Omit<LineAnswer, "id">): void =>
        server.send(JSON.stringify({ id: request.id, ...more }));
      carryOut(request).then(
        (value) => answer({ value }),
        (error: unknown) =>
          answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
      );
    });
    return new Response(null, { status: 101, webSocket: client });
  },
} satisfies ExportedHandler<BenchEnv>;
