/** A store without the optional methods passes the suite: what it lacks is skipped, and says so. */
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { describeRunStore } from "../../src/testing/describe-run-store.ts";

const OPTIONAL: ReadonlySet<string | symbol> = new Set([
  "beginAfterMs",
  "loadRun",
  "waitForEvent",
  "watchLease",
  "suspendRun",
  "cancelRun",
  "resolveStep",
  "restartRun",
  "forkRun",
]);

describeRunStore("A store without the optional methods", {
  newStore: () => {
    const clock = new TestClock();
    const store = new Proxy(new InMemoryDurableRunStore({ clock }), {
      get: (inner, property) => {
        const value: unknown = OPTIONAL.has(property) ? undefined : Reflect.get(inner, property);
        return typeof value === "function" ? (value.bind(inner) as unknown) : value;
      },
    });
    return { store, clock };
  },
});
