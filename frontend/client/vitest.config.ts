import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    // The tests of a whole platform use the package as it is published, under its own name.
    alias: {
      "@carillon/client/react": at("dist/react.js"),
      "@carillon/client": at("dist/index.js"),
    },
  },
  test: {
    testTimeout: 20_000,
    hookTimeout: 20_000,
    restoreMocks: true,
    maxWorkers: 2,
    // A page may only ask its own origin; on which one the platform lies is not what these tests are about.
    environmentOptions: { happyDOM: { settings: { fetch: { disableSameOriginPolicy: true } } } },
  },
});
