/**
 * Tests `pod chaos search`, which runs random fault plans in a simulated pod. Plants one defect
 * after another in a copy of this checkout, and searches there. A defect is found if the run of a
 * plan breaks an invariant. For each defect that is found, prints the seed of this plan, the
 * invariant, and the number of faults in the smallest plan that breaks it.
 *
 *   node dist/scripts/search-defects.js                 searches for all defects
 *   node dist/scripts/search-defects.js --only rollback searches for defects named "…rollback…"
 *   node dist/scripts/search-defects.js --seeds 200     tries at most 200 plans for each defect
 *
 * Exit codes: 0 all defects were found; 1 a defect was not found; 2 wrong input, or a defect does
 * not fit the sources any more.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { SearchResult } from '../src/cli/chaos-search.ts';
import { parsePlan } from '../src/fault/read.ts';
import { commandOf, wholeNumber } from './command.ts';
import { makeCopy, withChange } from './defects/copy.ts';
import type { Change } from './defects/defect.ts';
import { searchDefects } from './defects/search.ts';

interface Options {
  readonly only?: string;
  readonly seeds: number;
}

const options = commandOf('search-defects')
  .description('plant defects in a copy of this checkout, and let pod chaos search find them')
  .option('--only <text>', 'plant only defects whose name contains this text')
  .option('--seeds <n>', 'largest number of plans for each defect', wholeNumber, 2000)
  .parse()
  .opts<Options>();

process.exitCode = searchAll(options);

function searchAll({ only = '', seeds }: Options): number {
  const chosen = searchDefects.filter(({ name }) => name.includes(only));
  if (chosen.length === 0) {
    process.stderr.write(`search-defects: --only: no defect has ${only} in its name\n`);
    return 2;
  }
  const copy = makeCopy();
  try {
    const outcomes = chosen.map((change) => searchFor(copy, change, seeds));
    const found = outcomes.filter((it) => it === 'found').length;
    say(`${found} of ${outcomes.length} defects were found`);
    if (outcomes.includes('does not fit')) return 2;
    return found === outcomes.length ? 0 : 1;
  } finally {
    rmSync(copy, { recursive: true });
  }
}

type Outcome = 'found' | 'not found' | 'does not fit';

function searchFor(copy: string, change: Change, seeds: number): Outcome {
  const { name } = change;
  const found = withChange(copy, change, () => search(copy, seeds));
  if (found === 'does not fit') return tell(name, found, '');
  if (found === 'does not compile') return tell(name, 'does not fit', 'the copy does not compile');
  return tell(name, ...found);
}

/** Tries at most `seeds` plans in a copy, until one of them breaks an invariant. */
function search(copy: string, seeds: number): readonly [Outcome, string] {
  const program = join(copy, 'dist/src/cli/main.cjs');
  const words = ['chaos', 'search', '--seeds', String(seeds), '--first', '--json'];
  const { stdout, stderr } = spawnSync(process.execPath, [program, ...words], {
    cwd: copy,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (!stdout.startsWith('{')) throw new Error(`pod chaos search: ${stderr}`);
  const { failures, plans, seconds } = JSON.parse(stdout) as SearchResult;
  const [first] = failures;
  const took = `${plans} plans, ${seconds.toFixed(0)} s`;
  if (first === undefined) return ['not found', took];
  const faults = parsePlan(first.plan, first.file).faults.length;
  const { seed, violation } = first;
  return ['found', `seed ${seed}, ${violation.invariant}, ${faults} faults; ${took}`];
}

function tell(name: string, outcome: Outcome, details: string): Outcome {
  say(`${outcome.padEnd(12)}  ${name}${details === '' ? '' : `: ${details}`}`);
  return outcome;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
