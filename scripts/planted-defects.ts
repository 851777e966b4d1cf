/**
 * Tests the tests (mutation testing): plants one defect after another in a copy of this checkout,
 * and runs the test that guards the broken guarantee. A defect is caught if this test fails. The
 * output names each defect with its outcome.
 *
 *   node dist/scripts/planted-defects.js                  plants all defects (some minutes)
 *   node dist/scripts/planted-defects.js --only lane      plants defects with `lane` in the name
 *   node dist/scripts/planted-defects.js --list           prints all defects and plants none
 *
 * Exit codes: 0 all defects were caught; 1 a defect was not caught; 2 wrong input, or a defect does
 * not fit the sources any more.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { columns } from '../src/observe/format.ts';
import { commandOf } from './command.ts';
import { compiles, fits, makeCopy, tool, withChange } from './defects/copy.ts';
import type { Defect } from './defects/defect.ts';
import { defects } from './defects/list.ts';

/** Time, in ms, after which a test counts as failed: the defect has made it hang. */
const testMsLimit = 180_000;

const { only, list } = commandOf('planted-defects')
  .description('plant defects in a copy of this checkout, and check that the tests fail')
  .option('--only <text>', 'plant only defects whose name contains this text')
  .option('--list', 'print the defects and the guarantees that they break, and stop')
  .parse()
  .opts<{ readonly only?: string; readonly list?: boolean }>();

const chosen = defects.filter(({ name }) => name.includes(only ?? ''));
if (chosen.length === 0) {
  process.stderr.write(
    `planted-defects: --only: expected a part of the name of a defect, found ${only}\n`,
  );
  process.exitCode = 2;
} else if (list) {
  say(columns(chosen.map(({ name, guarantee }) => [name, guarantee])).join('\n'));
} else process.exitCode = plantAll();

function plantAll(): number {
  const copy = makeCopy();
  try {
    const rows = chosen.map((defect) => plant(copy, defect));
    const wrong = rows.filter(({ outcome }) => outcome !== 'caught');
    say(`${rows.length - wrong.length} of ${rows.length} defects were caught`);
    if (rows.some(({ outcome }) => outcome === 'does not fit')) return 2;
    return wrong.length === 0 ? 0 : 1;
  } finally {
    rmSync(copy, { recursive: true });
  }
}

type Outcome = 'caught' | 'not caught' | 'does not fit' | 'fails without the defect';

function plant(copy: string, defect: Defect): { readonly outcome: Outcome } {
  const outcome = outcomeOf(copy, defect);
  say(`${outcome.padEnd(12)}  ${defect.name}: ${defect.test}, "${defect.title}"`);
  return { outcome };
}

function outcomeOf(copy: string, defect: Defect): Outcome {
  if (!fits(copy, defect)) return 'does not fit';
  if (!passes(copy, defect)) return 'fails without the defect';
  // Some tests run compiled programs, so the copy with the defect is compiled first. If it does not
  // compile, the test is not run: the compiler finds such a defect without any test.
  const isCaught = withChange(copy, defect, () => !passes(copy, defect));
  if (typeof isCaught === 'string' || !compiles(copy)) return 'does not fit';
  return isCaught ? 'caught' : 'not caught';
}

/** True if the defect's test exists and passes. */
function passes(copy: string, { test, title }: Defect): boolean {
  const pattern = title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const args = [tool('vitest', 'vitest'), 'run', test, '-t', pattern, '--reporter=json'];
  const { stdout } = spawnSync(process.execPath, args, {
    cwd: copy,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    timeout: testMsLimit,
  });
  const start = stdout.indexOf('{"num');
  if (start < 0) return false;
  const { numPassedTests, numFailedTests, success } = JSON.parse(stdout.slice(start)) as {
    readonly numPassedTests: number;
    readonly numFailedTests: number;
    readonly success: boolean;
  };
  return success && numFailedTests === 0 && numPassedTests > 0;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
