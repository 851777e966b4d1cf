import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { type SimulatedOutcome, simulateRun } from '../../cluster/simulated/run.ts';
import { addChaos } from '../../src/cli/chaos.ts';
import { type SearchOptions, type SearchResult, search } from '../../src/cli/chaos-search.ts';
import { seenInSimulation, simulatedRunOf } from '../../src/cli/chaos-sim.ts';
import { Interrupted } from '../../src/cli/interrupted.ts';
import { planInFile } from '../../src/cli/plan-file.ts';
import { openPlanned, runWithFaults, runWithoutFaults } from '../../src/cli/planned-run.ts';
import { podRunner, type Simulate, simulatingRunner } from '../../src/cli/search-runner.ts';
import { type Case, planOf } from '../../src/fault/case.ts';
import type { StepValues } from '../../src/fault/differences.ts';
import { printPlan } from '../../src/fault/print.ts';
import { randomCase, type Shape, searchShape, shapeOn } from '../../src/fault/random-plan.ts';
import { judge } from '../../src/fault/verdict.ts';
import { broken } from '../../src/numerics/assert.ts';
import { Progress } from '../../src/observe/progress.ts';

const folder = mkdtempSync(join(tmpdir(), 'chaos-search-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Searches a range of seeds with a simulation that may have a defect. */
async function searched(
  simulate: Simulate,
  options: SearchOptions,
): Promise<{ readonly result: SearchResult; readonly text: string }> {
  let text = '';
  const write = (more: string): void => {
    text += more;
  };
  const progress = new Progress({ terminal: false, columns: 80, write }, () => 0);
  const result = await search(simulatingRunner(simulate), options, progress);
  return { result, text };
}

/** A simulation with a defect: if a worker throws, the last commit has wrong weights. */
const wrongAfterThrow: Simulate = async (run) => {
  const outcome = await simulateRun(run);
  const isHit = outcome.observation.injections.some(
    ({ index }) => run.faults?.[index]?.fault === 'throw',
  );
  return isHit ? withOtherDigest(outcome) : outcome;
};

/** A simulation with a defect: if the plan lets a worker throw, an assertion fails. */
const crashAfterThrow: Simulate = async (run) => {
  if (run.faults?.some(({ fault }) => fault === 'throw')) broken('a worker threw');
  return simulateRun(run);
};

function withOtherDigest(outcome: SimulatedOutcome): SimulatedOutcome {
  const { observation } = outcome;
  const { commits, kept } = observation;
  if (kept === undefined) throw new Error('a simulated run records what the disk has kept');
  const end = { ...kept.end, log: endingIn(kept.end.log, 'x') };
  return {
    ...outcome,
    observation: { ...observation, commits: endingIn(commits, 'x'), kept: { ...kept, end } },
  };
}

/** Returns the steps with another digest of the last one. */
function endingIn<T extends StepValues>(steps: readonly T[], digest: string): readonly T[] {
  return steps.map((it, i) => (i === steps.length - 1 ? { ...it, digest } : it));
}

/**
 * Returns the first seed whose random plan fulfils `holds`, expects the run to finish, and is fast
 * to run (`mlp` on four Cloud TPUs).
 */
function seedWith(holds: (it: Case) => boolean): number {
  for (let seed = 0; ; seed++) {
    const it = randomCase(seed);
    const { topology, model } = it.run;
    const isFast = topology.columns * topology.rows === 4 && model === 'mlp';
    if (isFast && it.outcome === 'done' && holds(it)) return seed;
  }
}

/**
 * A seed whose plan has at least four faults. One of them makes a worker throw in a training step.
 */
const seed = seedWith(({ faults }) => {
  const at = faults.find(({ fault }) => fault === 'throw')?.at;
  return faults.length >= 4 && at !== undefined && 'step' in at;
});

/** Random plans on 2×2 Cloud TPUs. */
const shape: Shape = { ...searchShape, topologies: [{ columns: 2, rows: 2 }] };

describe('pod chaos search', () => {
  test('simulates the same run as pod chaos run with the file of the plan', async () => {
    const it = randomCase(seed);
    const path = join(folder, 'same.yaml');
    writeFileSync(path, printPlan(planOf(it, 'sim')));
    const planned = await openPlanned(planInFile(path), 'sim');
    const seen = await runWithFaults(planned, () => undefined);
    const { ending } = await simulatingRunner().try(it);
    if (ending.kind !== 'ended') throw new Error(ending.message);
    expect(ending.seen.commits).toEqual(seen.commits);
    expect(ending.seen.notes).toEqual(seen.notes);
    expect(ending.seen.evaluation).toEqual(seen.evaluation);
    expect(seen.disagreements).toEqual([]);
  });

  test('runs plans in threads too, with faults that threads can inject', async () => {
    const { topologies, kinds } = shapeOn('threads');
    expect(topologies.every(({ columns, rows }) => columns * rows <= 8)).toBe(true);
    expect(kinds.map(({ name }) => name)).not.toContain('reset');
    const it: Case = {
      run: {
        ...{ topology: { columns: 2, rows: 1 }, model: 'mlp', steps: 4, batches: 1 },
        ...{ checkpointEvery: 2, recovery: 'replace', seed: 1 },
      },
      faults: [{ fault: 'kill', tpu: 1, at: { step: 3, phase: 'update' } }],
      outcome: 'done',
    };
    const { violations, injected, ending } = await podRunner('threads').try(it);
    expect(violations).toEqual([]);
    expect(injected).toEqual(it.faults);
    expect(ending.kind === 'ended' && ending.seen.commits.length).toBe(4);
  }, 60_000);

  test('finds no broken invariant in the first plans', async () => {
    const { result, text } = await searched(simulateRun, { from: 0, seeds: 4, shape });
    expect(text).toBe('');
    expect(result).toMatchObject({ plans: 4, failures: [] });
    expect(result.injected).toBeGreaterThan(4);
    expect(result.coverage.paths['peer-recovery']).toBeGreaterThan(2);
  });

  test('shrinks a plan that breaks an invariant, and its file breaks it again', async () => {
    const out = join(folder, 'found');
    const { result, text } = await searched(wrongAfterThrow, { from: seed, seeds: 1, out });
    const [failure] = result.failures;
    expect(failure).toMatchObject({ seed, violation: { invariant: 'weights' } });
    expect(text).toContain(`BROKEN  seed ${seed}: weights: digest x of step `);
    expect(readdirSync(out)).toEqual([`seed-${seed}.yaml`]);
    const file = join(out, `seed-${seed}.yaml`);
    expect(readFileSync(file, 'utf8')).toBe(failure?.plan);
    expect(failure?.plan).toContain(`# Repeat: pod chaos run ${file} --ground sim\n`);

    const planned = await openPlanned(planInFile(file), 'sim');
    const { plan, facts } = planned;
    expect(plan.faults.map(({ fault }) => fault)).toEqual(['throw']);
    expect(plan.run).toMatchObject({ topology: '2x2', steps: 1, model: 'mlp', seed: 0 });
    const run = simulatedRunOf(planned, plan.faults);
    const reference = await runWithoutFaults(planned);
    const brokenIn = async (simulate: Simulate): Promise<readonly string[]> => {
      const seen = seenInSimulation(await simulate(run), facts.topology);
      const verdicts = judge(plan, facts.topology, seen, reference);
      return verdicts.filter(({ holds }) => !holds).map(({ expectation }) => expectation);
    };
    expect(await brokenIn(wrongAfterThrow)).toEqual(['weights: bit-identical']);
    expect(await brokenIn(simulateRun)).toEqual([]);
  }, 30_000);

  test('takes a failed assertion of the simulation as a broken invariant', async () => {
    const { result } = await searched(crashAfterThrow, { from: seed, seeds: 1 });
    const [failure] = result.failures;
    expect(failure?.violation).toEqual({ invariant: 'no-crash', found: 'a worker threw' });
    expect(failure?.plan).toContain('fault: throw');
  }, 30_000);

  test('ends when it is stopped, and keeps the results so far', async () => {
    let plans = 0;
    const { result } = await searched(simulateRun, {
      ...{ from: seed, seeds: 50 },
      isStopped: () => ++plans === 2,
    });
    expect(result.plans).toBe(2);
    const interrupted: Simulate = () => Promise.reject(new Interrupted(130));
    const none = await searched(interrupted, { from: seed, seeds: 50, isStopped: () => true });
    expect(none.result.plans).toBe(0);
  });

  test('ends with a signal that ends the pod, and does not take it for a broken invariant', async () => {
    const interrupted: Simulate = () => Promise.reject(new Interrupted(130));
    const searching = searched(interrupted, { from: seed, seeds: 1 });
    await expect(searching).rejects.toBeInstanceOf(Interrupted);
  });

  test('finds a step that was committed although the Cloud TPUs differ', async () => {
    const unequal: Simulate = async (run) => {
      const outcome = await simulateRun(run);
      const events = outcome.events.map((event) => {
        if (event.event !== 'reported' || event.report.kind !== 'message') return event;
        const { message } = event.report;
        if (message.kind !== 'step-done' || message.tpu !== 1 || message.step !== 2) return event;
        return {
          ...event,
          report: { kind: 'message', message: { ...message, digest: 'x' } },
        } as const;
      });
      return { ...outcome, events };
    };
    const { violations } = await simulatingRunner(unequal).try({
      ...{ faults: [], outcome: 'done' },
      run: { ...randomCase(seed).run, steps: 4, recovery: 'replace' },
    });
    expect(violations.map(({ invariant }) => invariant)).toEqual(['agreement']);
    expect(violations[0]?.found).toContain('step 3 ');
  });
});

describe('the command pod chaos search', () => {
  const written: string[] = [];
  const command = async (...flags: readonly string[]): Promise<void> => {
    const program = new Command('pod').exitOverride().configureOutput({ writeErr: () => {} });
    addChaos(program);
    const stdout = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      written.push(String(text));
      return true;
    });
    try {
      await program.parseAsync(['chaos', 'search', ...flags], { from: 'user' });
    } finally {
      stdout.mockRestore();
    }
  };
  afterEach(() => {
    written.length = 0;
  });

  test('prints totals and the coverage, and the exit code stays 0', async () => {
    const out = join(folder, 'nothing', 'broken');
    await command('--seeds', '1', '--from', String(seed), '--coverage', '--times', '--out', out);
    const text = written.join('');
    expect(text).toMatch(new RegExp(`^plans: 1 \\(seeds ${seed} to ${seed}\\) in `, 'm'));
    expect(text).toMatch(/^no invariant was broken$/m);
    expect(text).toMatch(/^kill +\d+ +\d+ /m);
    expect(text).toMatch(/^a: no worker takes part in the phase commit; /m);
    expect(text).toMatch(/^not injected: .*stuck-cell.*: /m);
    expect(text).toMatch(
      /^times of the 0 of 1 plans with one fault that was injected; --faults 1 /m,
    );
    expect(readdirSync(folder)).not.toContain('nothing');
    expect(process.exitCode ?? 0).toBe(0);
  });

  test('prints JSON for programs', async () => {
    await command('--seeds', '1', '--from', String(seed), '--json');
    expect(JSON.parse(written.join(''))).toMatchObject({
      ...{ from: seed, plans: 1, failures: [] },
      coverage: { matrix: { kill: { update: { count: expect.any(Number) } } } },
    });
  });

  const wrong: readonly (readonly [readonly string[], string])[] = [
    [['--seeds', '0'], '--seeds: expected a whole number from 1 to 10000000, found "0"'],
    [['--seeds', 'many'], '--seeds: expected a whole number'],
    [['--seeds', '5', '--from', '4294967295'], '--from: expected a whole number from 0 to 42949'],
    [['--seeds', '1', '--from', '-1'], '--from: expected a whole number'],
    [['--seeds', '1', '--seeds', '2'], '--seeds: given twice'],
    [
      ['--seeds', '1', '--out', '/dev/null'],
      '--out: expected a folder that can be written, found ',
    ],
    [['--seeds', '1', '--out', ''], '--out: expected a folder that can be written, found an empty'],
    [[], "required option '--seeds <n>' not specified"],
  ];

  test.each(wrong)('refuses %j with one line', async (flags, message) => {
    await expect(command(...flags)).rejects.toThrow(message);
  });
});
