import { TestClock } from "../../src/testing/clock.ts";
import { describeRecovery } from "../../src/testing/describe-recovery.ts";
import { store } from "./coordinator-world.ts";
import { abort, evict, wipe } from "./disasters.ts";
import { faults } from "./faults.ts";

describeRecovery("CoordinatedDurableRunStore, ack: record,", {
  newStore: () => {
    const clock = new TestClock();
    faults.clock = clock;
    const open = () => store("record");
    return { store: open(), clock, reopen: open, disasters: { aborted: abort, evicted: evict, wiped: wipe } };
  },
});
