import { env } from "cloudflare:workers";
import { D1DurableRunStore } from "../../src/stores/d1/store.ts";
import { TestClock } from "../../src/testing/clock.ts";
import { describeRunStore } from "../../src/testing/describe-run-store.ts";

describeRunStore("D1DurableRunStore", {
  newStore: () => {
    const clock = new TestClock();
    const open = () => new D1DurableRunStore(env.DB, { clock });
    return { store: open(), clock, reopen: open };
  },
});
