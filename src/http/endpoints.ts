/** The endpoints of the API, all of them. docs/http-api.md describes them for users. */
import {
  DurableInvalidInputError,
  DurableRunNotFoundError,
  DurableStoreUnavailableError,
} from "../contract/errors.ts";
import { LIMITS } from "../contract/limits.ts";
import { newRunId } from "../identity.ts";
import { startRun, wakeRun } from "../workflows/start-run.ts";
import { answers } from "./components.ts";
import type { Endpoint, Services } from "./endpoint.ts";
import { endpoint, given } from "./endpoint.ts";
import { HttpError } from "./problems.ts";
import { bodies, paths, queries } from "./requests.ts";
import type { Caller } from "./scope.ts";

const about: Endpoint[] = [
  endpoint({
    id: "health",
    method: "get",
    path: "/health",
    access: "public",
    summary: "Whether the Worker answers. For anybody.",
    params: paths.none,
    query: queries.none,
    answers: { 200: ["It does.", answers.health] },
    handle: () => ({ status: 200, body: { ok: true } }),
  }),
  endpoint({
    id: "openApi",
    method: "get",
    path: "/openapi.json",
    access: "read",
    summary: "This document.",
    params: paths.none,
    query: queries.none,
    answers: { 200: ["OpenAPI 3.1.", answers.document] },
    handle: ({ document }) => ({ status: 200, body: document() }),
  }),
  endpoint({
    id: "me",
    method: "get",
    path: "/me",
    access: "read",
    summary: "Who is asking, and what that caller may do.",
    params: paths.none,
    query: queries.none,
    answers: { 200: ["The caller.", answers.me] },
    handle: ({ caller }) => ({ status: 200, body: caller() }),
  }),
  endpoint({
    id: "listTasks",
    method: "get",
    path: "/tasks",
    access: "read",
    summary: "The tasks that can be started by name: those of the caller's project.",
    params: paths.none,
    query: queries.none,
    answers: { 200: ["The tasks.", answers.tasks] },
    handle: ({ tasks, caller }) => ({
      status: 200,
      body: {
        tasks: Object.entries(tasks)
          .filter(([, { projectId }]) => isWithin(caller(), projectId))
          .map(([name, { description, projectId, intent }]) => ({ name, description, projectId, intent })),
      },
    }),
  }),
];

const runs: Endpoint[] = [
  endpoint({
    id: "listRuns",
    method: "get",
    path: "/runs",
    access: "read",
    summary: "Runs, newest first.",
    params: paths.none,
    query: queries.list,
    answers: { 200: ["A page of runs. It may be empty and not the last.", answers.runs] },
    handle: async ({ history, query: { tag, ...filter } }) => ({
      status: 200,
      body: await history().list({ ...given(filter), ...(tag !== undefined && { tags: tagsOf(tag) }) }),
    }),
  }),
  endpoint({
    id: "startRun",
    method: "post",
    path: "/runs",
    access: "write",
    summary: "Starts a registered task as a Workflow instance: nobody has to stay for it.",
    params: paths.none,
    query: queries.none,
    body: bodies.start,
    answers: { 202: ["It is on its way.", answers.started] },
    handle: async ({ tasks, workflow, caller, store, body, keyedRunId }) => {
      if (workflow === undefined) throw new HttpError("not_found");
      if (!Object.hasOwn(tasks, body.task))
        throw new DurableInvalidInputError("task", "is not the name of a registered task");
      const { projectId } = caller();
      const scope = { store: store(), ...(projectId !== undefined && { projectId }) };
      const input = given({ ...body, runId: body.runId ?? keyedRunId });
      const { runId } = await startRun(workflow, tasks, input, scope);
      return { status: 202, body: { runId }, location: locationOf(runId) };
    },
  }),
  endpoint({
    id: "getRun",
    method: "get",
    path: "/runs/:runId",
    access: "read",
    summary: "A run, with its manifest.",
    params: paths.run,
    query: queries.none,
    answers: { 200: ["The run.", answers.details] },
    handle: async ({ history, params }) => {
      const run = await history().get(params.runId);
      if (run === undefined) throw new DurableRunNotFoundError("no such run");
      return { status: 200, body: { run } };
    },
  }),
  endpoint({
    id: "getLag",
    method: "get",
    path: "/runs/:runId/lag",
    access: "read",
    summary: "How many rows of the run D1 lacks. Wakes the run's object.",
    params: paths.run,
    query: queries.none,
    answers: { 200: ["The rows.", answers.lag] },
    handle: async ({ store, params }) => {
      const rows = await store().lag(params.runId);
      if (rows === 0 && (await store().loadRun(params.runId)) === undefined)
        throw new DurableRunNotFoundError("no such run");
      return { status: 200, body: { rows } };
    },
  }),
  endpoint({
    id: "cancelRun",
    method: "post",
    path: "/runs/:runId/cancel",
    access: "write",
    summary: "Cancels a run: a live worker's next call is refused. Again: changes nothing.",
    params: paths.run,
    query: queries.none,
    body: bodies.cancel,
    bodyOptional: true,
    answers: { 200: ["The run as it then stands.", answers.run] },
    handle: async ({ store, params, body, request }) => ({
      status: 200,
      body: { run: await store().cancelRun(params.runId, body.reason, request) },
    }),
  }),
  endpoint({
    id: "restartRun",
    method: "post",
    path: "/runs/:runId/restart",
    access: "write",
    summary:
      "Forgets the steps from one on, for good. The run is pending; its Workflow instance, if any, goes on.",
    params: paths.run,
    query: queries.none,
    body: bodies.restart,
    answers: { 200: ["The run, pending.", answers.run] },
    handle: async ({ store, params, body, request, ...services }) => {
      const run = await store().restartRun(params.runId, { ...body, ...request });
      await wake(services, params.runId);
      return { status: 200, body: { run } };
    },
  }),
  endpoint({
    id: "forkRun",
    method: "post",
    path: "/runs/:runId/fork",
    access: "write",
    summary: "Makes a new run, pending, of the steps of another up to one.",
    params: paths.run,
    query: queries.none,
    body: bodies.fork,
    answers: { 201: ["The new run.", answers.run] },
    handle: async ({ store, params, body, request, keyedRunId }) => {
      const { newRunId: runId = keyedRunId ?? newRunId(), throughStep, edits } = body;
      const options = {
        throughStep,
        ...(edits !== undefined && { edits: edits as Record<number, unknown> }),
      };
      const run = await store().forkRun(params.runId, runId, { ...options, ...request });
      return { status: 201, body: { run }, location: locationOf(runId) };
    },
  }),
];

const steps: Endpoint[] = [
  endpoint({
    id: "listSteps",
    method: "get",
    path: "/runs/:runId/steps",
    access: "read",
    summary: "The steps of a run, in order of position, without results unless they are asked for.",
    params: paths.run,
    query: queries.steps,
    answers: { 200: ["A page of steps.", answers.steps] },
    handle: async ({ history, params, query }) => ({
      status: 200,
      body: await history().steps(params.runId, { results: false, ...given(query) }),
    }),
  }),
  endpoint({
    id: "getStep",
    method: "get",
    path: "/runs/:runId/steps/:stepIndex",
    access: "read",
    summary: "A step with its whole result.",
    params: paths.step,
    query: queries.none,
    answers: { 200: ["The step.", answers.historyStep] },
    handle: async ({ history, params }) => {
      const step = await history().step(params.runId, params.stepIndex);
      if (step === undefined) throw new HttpError("not_found");
      return { status: 200, body: { step } };
    },
  }),
  endpoint({
    id: "resolveStep",
    method: "post",
    path: "/runs/:runId/steps/:stepIndex/resolve",
    access: "write",
    summary: "Frees a step in doubt: with a result, which then stands, or for another attempt.",
    params: paths.step,
    query: queries.none,
    body: bodies.resolve,
    answers: { 200: ["The step as it then stands.", answers.step] },
    handle: async ({ store, params, body, request, ...services }) => {
      const step = await store().resolveStep(params.runId, params.stepIndex, body, request);
      await wake(services, params.runId);
      return { status: 200, body: { step } };
    },
  }),
];

const events: Endpoint[] = [
  endpoint({
    id: "listEvents",
    method: "get",
    path: "/runs/:runId/events",
    access: "read",
    summary: "The events of a run, in order of key.",
    params: paths.run,
    query: queries.page,
    answers: { 200: ["A page of events.", answers.events] },
    handle: async ({ history, params, query }) => ({
      status: 200,
      body: await history().events(params.runId, given(query)),
    }),
  }),
  endpoint({
    id: "getEvent",
    method: "get",
    path: "/runs/:runId/events/:key",
    access: "read",
    summary: "An event with its whole payload.",
    params: paths.event,
    query: queries.none,
    answers: { 200: ["The event.", answers.event] },
    handle: async ({ history, params }) => {
      const event = await history().event(params.runId, params.key);
      if (event === undefined) throw new HttpError("not_found");
      return { status: 200, body: { event } };
    },
  }),
  endpoint({
    id: "emitEvent",
    method: "post",
    path: "/runs/:runId/events/:key",
    access: "write",
    summary: "Emits an event; the body is its payload. The first emit of a key wins.",
    params: paths.event,
    query: queries.none,
    body: bodies.payload,
    answers: {
      201: ["It was accepted.", answers.emitted],
      200: ["Another one stands under this key, and is answered.", answers.emitted],
    },
    handle: async ({ store, params, body, request }) => {
      const { accepted, record } = await store().emitEvent({ ...params, payload: body, ...request });
      return { status: accepted ? 201 : 200, body: { accepted, event: record } };
    },
  }),
];

const numbers: Endpoint[] = [
  endpoint({
    id: "getStats",
    method: "get",
    path: "/stats",
    access: "read",
    summary: "Counts, durations and failure rates.",
    params: paths.none,
    query: queries.stats,
    answers: { 200: ["The numbers.", answers.stats] },
    handle: async ({ history, query, afterStats }) => {
      const body = await history().stats(given(query));
      afterStats();
      return { status: 200, body };
    },
  }),
  endpoint({
    id: "listStuck",
    method: "get",
    path: "/stuck",
    access: "read",
    summary: "Runs that should have gone on, the longest overdue first.",
    params: paths.none,
    query: queries.stuck,
    answers: { 200: ["A page of runs.", answers.stuck] },
    handle: async ({ history, query }) => ({ status: 200, body: await history().stuck(given(query)) }),
  }),
];

export const ENDPOINTS: readonly Endpoint[] = [...about, ...runs, ...steps, ...events, ...numbers];

/** A caller of one project hears of its tasks alone. */
function isWithin({ projectId }: Caller, of: string): boolean {
  return projectId === undefined || projectId === of;
}

/** What waits in a Workflow looks again. What was done stands, so whoever hears of a failure may repeat the request. */
async function wake({ workflow }: Pick<Services, "workflow">, runId: string): Promise<void> {
  if (workflow === undefined) return;
  try {
    await wakeRun(workflow, runId);
  } catch (cause) {
    throw new DurableStoreUnavailableError("the run's Workflow instance could not be woken", { cause });
  }
}

function tagsOf(tags: readonly string[]): Record<string, string> {
  const pairs = tags.map((tag): [string, string] => {
    const colon = tag.indexOf(":");
    return [tag.slice(0, colon), tag.slice(colon + 1)];
  });
  const distinct = new Map(pairs);
  if (distinct.size < pairs.length || tags.length > LIMITS.tags)
    throw new DurableInvalidInputError("tag", "names a key twice");
  return Object.fromEntries(distinct);
}

function locationOf(runId: string): string {
  return `/runs/${encodeURIComponent(runId)}`;
}
