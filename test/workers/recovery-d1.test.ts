import { env } from "cloudflare:workers";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { describeRecovery } from "../../src/testing/describe-recovery.ts";

const NO_OBJECT = "there is no object";

describeRecovery("D1DurableRunStore", {
  newStore: () => {
    const clock = new TestClock();
    const open = () => new D1DurableRunStore(env.DB, { clock });
    return { store: open(), clock, reopen: open };
  },
  skip: { aborted: NO_OBJECT, evicted: NO_OBJECT, wiped: NO_OBJECT },
});
