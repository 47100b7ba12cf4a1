// The dashboard: two pages, the app and the sign-in, into dist/dashboard. Nothing is inlined, for its content security
// policy allows no inline script or style, and the sign-in shares no file with the app, so that it alone can be public.
import { defineConfig } from "vite";

export default defineConfig({
  root: "dashboard",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../dist/dashboard",
    emptyOutDir: true,
    target: ["chrome125", "firefox126", "safari18"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { app: "dashboard/index.html", login: "dashboard/login.html" } },
  },
});
