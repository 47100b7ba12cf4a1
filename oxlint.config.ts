// The linter holds four lines: import direction, no cycles, no lost promises, no `any`.
import { defineConfig, type OxlintOverride } from "oxlint";

/**
 * Which parts of src a part may import, besides itself. Imports point downwards only; move a shared type down
 * rather than adding a line here. A part not listed (the faces) may import every other.
 */
const mayImport: Record<string, readonly string[]> = {
  contract: [],
  identity: ["contract"],
  ledger: ["contract", "identity"],
  runner: ["contract", "identity"],
  stores: ["contract", "identity", "ledger"],
  coordinator: ["contract", "identity", "ledger", "stores"],
  history: ["contract", "identity", "ledger", "stores"],
};
const faces = ["workflows", "service", "http", "index", "node", "cloudflare", "testing", "worker", "env"];
const parts = [...Object.keys(mayImport), ...faces];

/** Parts that know workerd's modules, and the one store that knows Node's. */
const cloudflareParts = ["coordinator", "cloudflare", "worker", "workflows", "service"];
const nodeParts = ["node", "stores/file-system"];

type Pattern = ({ regex: string } | { group: string[] }) & { message: string; allowTypeImports?: boolean };
const noCloudflare: Pattern = {
  regex: "^cloudflare:",
  message: `Only ${cloudflareParts.join(", ")} may import cloudflare: modules.`,
};
const noNode: Pattern = {
  group: ["node:*", "node:*/**", "!node:crypto", "!node:async_hooks"],
  message: `Only ${nodeParts.join(", ")} may import node: modules other than node:crypto and node:async_hooks.`,
};
/** `node:fs` is the only spelling, so that noNode sees every Node module. */
const bareNode: Pattern = {
  regex:
    "^(assert|buffer|child_process|crypto|events|fs|http|https|net|os|path|process|stream|url|util|worker_threads)(/|$)",
  message: "Write node:<name>.",
};
const ownName: Pattern = { regex: "^durable-runs(/|$)", message: "Inside src, import the file itself." };

const typesAlone: Pattern = {
  regex: "^(\\.\\./)+src/",
  allowTypeImports: true,
  message: "The dashboard knows the engine by its HTTP API; of src it may import types.",
};

function importRules(part: string): Pattern[] {
  const owner = part.split("/")[0] ?? part;
  const allowed = mayImport[owner];
  const forbidden = allowed ? parts.filter((other) => other !== owner && !allowed.includes(other)) : [];
  const direction: Pattern = {
    regex: `^\\.{1,2}/(\\.\\./)*(${forbidden.join("|")})(/|\\.ts$)`,
    message: `src/${owner} may import only ${[owner, ...(allowed ?? [])].join(", ")}.`,
  };
  return [
    bareNode,
    ownName,
    ...(forbidden.length > 0 ? [direction] : []),
    ...(cloudflareParts.includes(part) ? [] : [noCloudflare]),
    ...(nodeParts.includes(part) ? [] : [noNode]),
  ];
}

/** The last override that matches a file decides: all of src, then each part, then stores/file-system. */
const overrides: OxlintOverride[] = [
  { files: ["src/**"], rules: restrict([bareNode, ownName, noCloudflare, noNode]) },
  ...[...parts, "stores/file-system"].map((part) => ({
    files: [`src/${part}.ts`, `src/${part}/**`],
    rules: restrict(importRules(part)),
  })),
];

function restrict(patterns: Pattern[]): OxlintOverride["rules"] & object {
  return { "no-restricted-imports": ["error", { patterns }] };
}

export default defineConfig({
  plugins: ["typescript", "unicorn", "oxc", "import", "vitest"],
  categories: { correctness: "error" },
  options: { typeAware: true, denyWarnings: true, reportUnusedDisableDirectives: "error" },
  ignorePatterns: ["dist", "coverage", "worker-configuration.d.ts"],
  rules: {
    eqeqeq: "error",
    "no-unused-vars": [
      "error",
      { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true },
    ],
    "no-console": "off",
    "import/no-cycle": ["error", { ignoreTypes: false }],
    "typescript/no-explicit-any": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "typescript/await-thenable": "error",
    "typescript/consistent-type-imports": "error",
    "typescript/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    "vitest/no-focused-tests": "error",
    // A shared suite and a property check assert in helpers; a skip carries its reason.
    "vitest/expect-expect": "off",
    "vitest/no-conditional-expect": "off",
    "vitest/no-standalone-expect": "off",
    "vitest/no-disabled-tests": "off",
    "vitest/require-to-throw-message": "off",
    "vitest/require-mock-type-parameters": "off",
  },
  overrides: [
    ...overrides,
    { files: ["dashboard/**"], rules: restrict([typesAlone]) },
    { files: ["**/*.d.ts"], rules: { "typescript/consistent-type-imports": "off" } },
    {
      // The core runs everywhere: what only one platform has as a global comes in as an argument.
      files: ["src/{contract,ledger,runner}/**", "src/identity.ts"],
      rules: { "no-restricted-globals": ["error", "process", "Buffer", "global", "__dirname", "require"] },
    },
  ],
});
