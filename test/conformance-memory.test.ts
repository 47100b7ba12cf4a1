import { InMemoryDurableRunStore } from "../src/stores/memory.ts";
import { TestClock } from "../src/testing/clock.ts";
import { describeRunStore } from "../src/testing/describe-run-store.ts";

describeRunStore("InMemoryDurableRunStore", {
  newStore: () => {
    const clock = new TestClock();
    return { store: new InMemoryDurableRunStore({ clock }), clock };
  },
});
