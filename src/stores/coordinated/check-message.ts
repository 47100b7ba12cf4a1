/**
 * Whether what came over RPC is a message of the wire, as far as the coordinator has to know before it makes a request
 * of it. What the request says is for ledger/check-request.ts.
 */
import { DurableInvalidInputError } from "../../contract/errors.ts";
import {
  checkObject,
  checkOneOf,
  checkRunId,
  checkStepIndex,
  checkText,
  LIMITS,
} from "../../contract/limits.ts";
import { NO_VALUE } from "../../contract/payload.ts";
import { checkOp, checkRequest } from "../../ledger/check-request.ts";
import type { CompletionMessage, WireMessage } from "./wire.ts";

/** Throws `invalid_input`, which names the field. The version is for the coordinator to judge. */
export function checkMessage(message: unknown): asserts message is WireMessage {
  checkObject("message", message);
  const { request, ack, body, projectId } = message as Readonly<Record<string, unknown>>;
  checkObject("request", request);
  const { op, runId, stepIndex } = request as Readonly<Record<string, unknown>>;
  checkOp(op);
  checkRunId(runId);
  // Of what an older client leaves out, some is made of it.
  if (stepIndex !== undefined) checkStepIndex(stepIndex);
  checkOneOf("ack", ack, ["record", "coordinator"]);
  if (projectId !== undefined) checkText("projectId", projectId, LIMITS.projectIdBytes);
  if (body === undefined) return;
  if (!(body instanceof Uint8Array)) throw new DurableInvalidInputError("body", "must be a Uint8Array");
  if (body.byteLength <= LIMITS.payloadBytes) return;
  const size = `has ${body.byteLength} bytes; at most ${LIMITS.payloadBytes} are allowed`;
  throw new DurableInvalidInputError("body", size);
}

/** The same of what is to be completed with an event, with all that its request says. `now`: epoch milliseconds. */
export function checkCompletion(
  message: unknown,
  runId: string,
  now: number,
): asserts message is CompletionMessage {
  checkObject("completion", message);
  const { ack, request } = message as Readonly<Record<string, unknown>>;
  checkOneOf("ack", ack, ["record", "coordinator"]);
  checkObject("request", request);
  const { op, runId: ofRun } = request as Readonly<Record<string, unknown>>;
  checkOneOf("op", op, ["complete"]);
  if (ofRun !== runId) throw new DurableInvalidInputError("runId", "must be that of the run with the event");
  checkRequest({ ...(request as object), result: { text: NO_VALUE } }, now);
}
