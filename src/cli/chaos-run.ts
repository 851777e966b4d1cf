import { type OpenedRun, openRun } from '../experiment/open-run.ts';
import { mistakesIn, type RunFacts, refuseMistakes } from '../fault/check.ts';
import { type Fault, type FaultPlan, type Ground, grounds } from '../fault/plan.ts';
import { locate, parsePlan } from '../fault/read.ts';
import { scheduleOf } from '../fault/schedule.ts';
import { supported } from '../fault/support.ts';
import {
  type FaultOutcome,
  judge,
  type Observation,
  outcomesOf,
  type Verdict,
} from '../fault/verdict.ts';
import { readYamlText } from '../files/yaml.ts';
import { PodError } from '../numerics/error.ts';
import { milliseconds, table } from '../observe/format.ts';
import { inProcesses } from './chaos-processes.ts';
import { inSimulation, withoutLargeGrid } from './chaos-sim.ts';
import { inThreads } from './chaos-threads.ts';
import { optionsOf, type TrainOptions } from './options.ts';
import { mergeSettings, type Settings } from './settings/merge.ts';
import type { Mode } from './settings/schema.ts';
import { sourceOfFlags } from './settings/source.ts';

/** Flags of `pod chaos run`. */
export interface ChaosFlags {
  readonly ground: string;
  readonly json?: boolean;
  readonly log?: string;
}

/**
 * Runs a fault plan, prints the verdict, and sets exit code 1 if an expectation does not hold.
 *
 * @throws PodError `bad-flag` or `bad-plan` if the flags or the plan are wrong, and the errors of
 * `train` if the run fails before its first step.
 */
export async function runPlan(path: string, flags: ChaosFlags): Promise<void> {
  const ground = groundOf(flags.ground);
  if (flags.log !== undefined && ground !== 'sim') {
    throw new PodError('bad-flag', `--log: expected --ground sim, found --ground ${ground}`);
  }
  const text = readPlan(path);
  const parsed = parsePlan(text, path);
  const { plan, topology } =
    ground === 'sim' ? withoutLargeGrid(parsed, path) : { plan: parsed, topology: undefined };
  const options = optionsOf(settingsOfRun(plan, path, 'train'));
  const opened = await openRun(options.config);
  const facts = { ...factsOf(options, opened), ...(topology && { topology }) };
  const place = (at: readonly (string | number)[]): string => locate(text, at);
  refuseMistakes([...mistakesIn(plan, facts), ...unsupported(plan, ground)], path, place);
  const schedule = scheduleOf(plan, facts.topology, facts.steps);
  const say = flags.json
    ? () => undefined
    : (line: string) => void process.stdout.write(`${line}\n`);
  say(`${schedule.length} faults in ${facts.steps} steps, ground ${ground}`);
  const observe: Observe = (faults, tell, isReference) => {
    if (ground === 'sim') {
      const run = { options, opened, facts };
      return inSimulation(run, faults, tell, isReference ? undefined : flags.log);
    }
    return ground === 'processes' && !isReference
      ? inProcesses(settingsOfRun(plan, path, 'up'), faults, tell)
      : inThreads({ opened, relaxed: options.relaxedSimd }, faults, tell);
  };
  const reference = needsReference(plan) ? await observe([], () => undefined, true) : undefined;
  const faults = schedule.map(({ fault }) => fault);
  const seen = await observe(faults, say, false);
  const scheduled: FaultPlan = { ...plan, faults };
  const verdicts = judge(scheduled, facts.topology, seen, reference);
  const outcomes = outcomesOf(scheduled, seen);
  if (flags.json) process.stdout.write(`${JSON.stringify({ verdicts, outcomes, ground })}\n`);
  else say(`\n${[...faultTable(outcomes), '', ...verdictLines(verdicts)].join('\n')}`);
  if (verdicts.some(({ holds }) => !holds)) process.exitCode = 1;
}

/**
 * Trains the run that a fault plan describes, with the given faults. `isReference` is true for the
 * run without faults, with which the results are compared.
 */
type Observe = (
  faults: readonly Fault[],
  say: (line: string) => void,
  isReference: boolean,
) => Promise<Observation>;

function groundOf(name: string): Ground {
  const ground = grounds.find((it) => it === name);
  if (ground !== undefined) return ground;
  throw new PodError('bad-flag', `--ground: expected ${grounds.join(', ')}, found ${name}`);
}

/** Largest plan, in bytes. */
const planBytesMax = 2 ** 22;

function readPlan(path: string): string {
  const contents = readYamlText(path, planBytesMax);
  if (contents.kind === 'text') return contents.text;
  throw new PodError('bad-plan', `${path}: expected a fault plan, found ${contents.found}`);
}

/** Returns the settings of the run. By default it recovers from losses. */
function settingsOfRun({ run }: FaultPlan, path: string, mode: Mode): Settings {
  const values = { recovery: 'replace', ...run };
  const text = Object.entries(values).map(([key, value]) => [
    key,
    typeof value === 'boolean' ? value : String(value),
  ]);
  const source = sourceOfFlags(Object.fromEntries(text), (key) => `run.${key} in ${path}`);
  return mergeSettings(mode, [source]);
}

function factsOf({ config, checkpoint }: TrainOptions, { identity, dataset }: OpenedRun): RunFacts {
  const held = Math.min(config.evaluate ?? dataset.test.size, dataset.test.size);
  return {
    topology: config.topology,
    steps: identity.steps,
    evaluationSteps: Math.ceil(held / config.globalBatch),
    hasCheckpoints: checkpoint !== undefined,
    cores: 8,
  };
}

function unsupported(plan: FaultPlan, ground: Ground) {
  return plan.faults.flatMap((fault, index) => {
    const reason = supported(fault, ground);
    if (reason === true) return [];
    return [{ path: ['faults', index, 'fault'], message: `${fault.fault}: ${reason}` }];
  });
}

function needsReference({ expect }: FaultPlan): boolean {
  return expect.weights !== undefined || expect.samples !== undefined;
}

function faultTable(outcomes: readonly FaultOutcome[]): readonly string[] {
  const shown = (ms: number | undefined): string => (ms === undefined ? '-' : milliseconds(ms));
  const rows = outcomes.map(({ fault, injectedMs, detectionMs, recoveryMs, blamed }) => [
    `${fault.fault}${'tpu' in fault ? ` of Cloud TPU ${fault.tpu}` : ''}`,
    JSON.stringify(fault.at).replaceAll('"', ''),
    injectedMs === undefined ? 'never' : 'yes',
    shown(detectionMs),
    shown(recoveryMs),
    blamed === undefined || blamed === null ? '-' : `Cloud TPU ${blamed}`,
  ]);
  return table([['fault', 'at', 'injected', 'noticed', 'recovered', 'blamed'], ...rows]);
}

function verdictLines(verdicts: readonly Verdict[]): readonly string[] {
  return verdicts.map(({ expectation, holds, found }) => {
    return `${holds ? 'holds  ' : 'BROKEN '} ${expectation}: ${found}`;
  });
}
