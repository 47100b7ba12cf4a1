// The dashboard in a real browser, against the real Worker in workerd: `npm run test:browser`. Not part of `npm test`, for
// it needs Chromium: /usr/bin/chromium, or CHROMIUM_PATH. UPDATE_SCREENSHOTS=1 renews docs/images; give it
// test/browser/screenshots.test.ts alone, or the pictures show the runs of the other tests.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    name: "browser",
    root: new URL("../..", import.meta.url).pathname,
    include: ["test/browser/*.test.ts"],
    globalSetup: ["test/browser/global-setup.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
