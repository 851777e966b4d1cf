import { availableParallelism } from 'node:os';
import { defineConfig, type ViteUserConfig } from 'vitest/config';

/**
 * Many tests wait for processes most of the time, so three test files run at once even on a machine
 * with two processors. By default Vitest would then run one.
 */
const maxWorkers = Math.max(3, availableParallelism() - 1);

const config: ViteUserConfig = defineConfig({
  test: {
    ...{ include: ['test/**/*.test.ts'], maxWorkers },
    ...{ testTimeout: 60_000, hookTimeout: 60_000 },
  },
});
export default config;
