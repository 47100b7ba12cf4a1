import { env } from "cloudflare:workers";
import { describeRunStore } from "../../src/testing/describe-run-store.ts";
import { clockOfRuns, connected } from "./rpc-world.ts";

const UNBEGUN = "nobody knows yet whose the run will be, so a binding of one project may only begin it";

describeRunStore("connectRuns, over a service binding to another Worker,", {
  newStore: () => {
    const open = () => connected(env.RUNS_SERVICE);
    return { store: open(), clock: clockOfRuns, reopen: open };
  },
});

describeRunStore("connectRuns, over a binding for the suite's own project,", {
  newStore: () => {
    const open = () => connected(env.RUNS_OF_CONFORMANCE);
    return { store: open(), clock: clockOfRuns, reopen: open };
  },
  skip: {
    "accepts and keeps an event for a run that has not begun": UNBEGUN,
    "answers at once with one that is there, to a run that has not begun too": UNBEGUN,
    "of a run that is not known is refused, though the event is kept": UNBEGUN,
  },
});
