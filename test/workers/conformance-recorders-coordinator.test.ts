import { env } from "cloudflare:workers";
import { CoordinatedDurableRunStore } from "../../src/stores/coordinated/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { describeRunStore } from "../../src/testing/describe-run-store.ts";
import { faults } from "./faults.ts";

describeRunStore("CoordinatedDurableRunStore, ack: coordinator, with a recorder object,", {
  newStore: () => {
    const clock = new TestClock();
    faults.clock = clock;
    faults.recorders = env.RECORDERS;
    const open = () => new CoordinatedDurableRunStore(env.RUNS, { ack: "coordinator" });
    return { store: open(), clock, reopen: open };
  },
});
