import { TestClock } from "../../src/testing/clock.ts";
import { describeRecovery } from "../../src/testing/describe-recovery.ts";
import { store } from "./coordinator-world.ts";
import { abort, evict, wipeOnceRecorded } from "./disasters.ts";
import { faults } from "./faults.ts";

describeRecovery("CoordinatedDurableRunStore, ack: coordinator,", {
  newStore: () => {
    const clock = new TestClock();
    faults.clock = clock;
    const open = () => store("coordinator");
    return {
      store: open(),
      clock,
      reopen: open,
      disasters: { aborted: abort, evicted: evict, wiped: wipeOnceRecorded },
    };
  },
});
