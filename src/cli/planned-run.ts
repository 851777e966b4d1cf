import { type OpenedRun, openRun } from '../experiment/open-run.ts';
import { type Mistake, mistakesIn, type RunFacts, refuseMistakes } from '../fault/check.ts';
import { type Fault, type FaultPlan, type Ground, grounds } from '../fault/plan.ts';
import { type Scheduled, scheduleOf } from '../fault/schedule.ts';
import type { SeenEvent } from '../fault/seen.ts';
import { supported } from '../fault/support.ts';
import type { Observation } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import type { RunStream } from '../run/stream.ts';
import { inContainers } from './chaos-containers.ts';
import { inProcesses } from './chaos-processes.ts';
import { bucketsOf, inSimulation, withoutLargeGrid } from './chaos-sim.ts';
import { inThreads } from './chaos-threads.ts';
import { checkContainers } from './container-engine.ts';
import { optionsOf, type TrainOptions } from './options.ts';
import { checkOwnFolders } from './own-folder.ts';
import { mergeSettings, type Settings } from './settings/merge.ts';
import { isSettingKey, type Mode } from './settings/schema.ts';
import { sourceOfFlags, unknownSetting } from './settings/source.ts';

/**
 * Returns the kind of pod that has the given name. `origin` tells messages where the name was
 * given.
 */
export function groundOf(name: unknown, origin: string): Ground {
  const ground = grounds.find((it) => it === name);
  if (ground !== undefined) return ground;
  throw new PodError('bad-flag', `${origin}: expected ${grounds.join(', ')}, found ${quote(name)}`);
}

/** A fault plan, and how messages name its values. */
export interface NamedPlan {
  readonly plan: FaultPlan;
  /**
   * Returns a text for messages about the value at a path of the plan. The text has the place of
   * the value in its file, and the name of the value: `plan.yaml:7:10: faults.0.tpu`.
   */
  readonly placeOf: (path: Mistake['path']) => string;
  /** Returns the name of a setting of the run, such as `run.steps in plan.yaml`. */
  readonly settingName: (key: string) => string;
  /** The plan as YAML; undefined for a plan that is given in code. */
  readonly text?: string;
}

/** A fault plan that was checked, and what its run needs. The data of the run has been read. */
export interface PlannedRun {
  readonly ground: Ground;
  /**
   * The plan with the faults that will be injected. Its faults include those that are drawn by
   * chance. The loss of a row or column is replaced by a `kill` of each Cloud TPU in it. An
   * injection in an {@link Observation} has an index into these faults.
   */
  readonly plan: FaultPlan;
  /**
   * The faults of `plan`, in the same order. For each fault, `planned` is its index in the plan as
   * it was written, or null if the fault was drawn by chance.
   */
  readonly schedule: readonly Scheduled[];
  readonly facts: RunFacts;
  readonly opened: OpenedRun;
  /** Settings of the run as those of `pod train`. `options` was made from them. */
  readonly settings: Settings;
  readonly options: TrainOptions;
  /** Settings of a pod of processes or containers; undefined for other kinds of pods. */
  readonly ofProcesses: Settings | undefined;
}

/**
 * Checks a fault plan, and reads the data of its run.
 *
 * @throws PodError `bad-plan` for a mistake in the plan or a fault that the ground cannot inject,
 * `bad-flag` or `bad-config` for a wrong setting, and the errors of {@link openRun},
 * {@link checkOwnFolders} and {@link checkContainers}.
 */
export async function openPlanned(named: NamedPlan, ground: Ground): Promise<PlannedRun> {
  const { placeOf, settingName } = named;
  const { plan, topology } =
    ground === 'sim'
      ? withoutLargeGrid(named.plan, settingName('topology'))
      : { plan: named.plan, topology: undefined };
  const settings = settingsOfRun(plan, 'train', settingName);
  const options = optionsOf(settings);
  const opened = await openRun(options.config);
  const known = { ...factsOf(options, opened), ...(topology && { topology }) };
  const facts = withBuckets(known, plan.faults, { options, opened });
  refuseFaults(plan, facts, ground, placeOf);
  const schedule = scheduleOf(plan, facts.topology, facts.steps);
  const faults = schedule.map(({ fault }) => fault);
  const isCluster = ground === 'processes' || ground === 'containers';
  const ofProcesses = isCluster ? settingsOfRun(plan, 'up', settingName) : undefined;
  if (ofProcesses !== undefined) checkOwnFolders();
  if (ground === 'containers' && ofProcesses) await checkContainers(ofProcesses);
  const run = { settings, options, ofProcesses };
  return { ground, plan: { ...plan, faults }, schedule, facts, opened, ...run };
}

/**
 * Trains a planned run with its faults, and returns what was seen. An error of the run after its
 * first step is part of the result.
 *
 * `tell` is called with each event of the run: at once in threads, within about 100 ms in processes
 * and containers, after the end of the run in a simulation. `log` is a file to which a simulation
 * writes all its events. `record` receives all events of a run in threads.
 *
 * @throws PodError if the run fails before its first step.
 */
export function runWithFaults(
  planned: PlannedRun,
  tell: (event: SeenEvent) => void,
  log?: string,
  record?: RunStream,
): Promise<Observation> {
  const { faults } = planned.plan;
  if (planned.ground === 'sim') return inSimulation(planned, faults, tell, log);
  const { ofProcesses, ground } = planned;
  if (ofProcesses === undefined) return inThreads(planned, faults, tell, record);
  const train = ground === 'containers' ? inContainers : inProcesses;
  return train(ofProcesses, faults, tell);
}

/**
 * Trains a planned run without its faults, and returns what was seen. A run of processes or
 * containers is trained in threads: all three give the same weights, and threads start faster.
 * Writes no checkpoints to disk. Otherwise the run with faults would find them and take them for
 * its own.
 */
export function runWithoutFaults(planned: PlannedRun): Promise<Observation> {
  const nobody = (): void => undefined;
  if (planned.ground === 'sim') return inSimulation(planned, [], nobody);
  const options = { ...planned.options, checkpoint: undefined };
  return inThreads({ ...planned, options }, [], nobody);
}

/** Returns the settings of the run of a plan. By default the run recovers from losses. */
function settingsOfRun(
  { run }: FaultPlan,
  mode: Mode,
  settingName: NamedPlan['settingName'],
): Settings {
  const values = { recovery: 'replace', ...run };
  const unknown = Object.keys(values).find((key) => !isSettingKey(key));
  if (unknown !== undefined) throw unknownSetting(settingName(unknown), outputSettings);
  const output = outputSettings.find((key) => Object.hasOwn(values, key));
  if (output !== undefined) {
    throw new PodError('bad-flag', `${settingName(output)}: not possible in a run with faults`);
  }
  const text = Object.entries(values).map(([key, value]) => [
    key,
    typeof value === 'boolean' ? value : String(value),
  ]);
  return mergeSettings(mode, [sourceOfFlags(Object.fromEntries(text), settingName)]);
}

/** Settings that say where the output of a run goes. A run with faults has no such output. */
const outputSettings: readonly string[] = ['log', 'logLevel', 'report', 'run', 'json', 'print'];

/** Returns what the checks of a plan need to know of its run. */
export function factsOf(
  { config, checkpoint }: TrainOptions,
  { identity, dataset }: OpenedRun,
): RunFacts {
  const held = Math.min(config.evaluate ?? dataset.test.size, dataset.test.size);
  return {
    topology: config.topology,
    steps: identity.steps,
    evaluationSteps: Math.ceil(held / config.globalBatch),
    checkpointEvery: checkpoint?.every,
    cores: 8,
  };
}

/**
 * Returns the facts of a run with the number of its buckets, if a fault names a bucket other than
 * the first. The training program must be compiled to know this number.
 */
export function withBuckets(
  facts: RunFacts,
  faults: readonly Fault[],
  { options, opened }: Pick<PlannedRun, 'options' | 'opened'>,
): RunFacts {
  const isNamed = faults.some(({ at }) => 'step' in at && (at.bucket ?? 0) > 0);
  return isNamed ? { ...facts, buckets: bucketsOf({ options, opened, facts }) } : facts;
}

/**
 * Throws PodError `bad-plan` for the first mistake in the faults of a plan, or the first fault that
 * the ground cannot inject. `placeOf` gives the place and the name of the value at a path.
 */
export function refuseFaults(
  plan: FaultPlan,
  facts: RunFacts,
  ground: Ground,
  placeOf: NamedPlan['placeOf'],
): void {
  refuseMistakes([...mistakesIn(plan, facts), ...unsupported(plan, ground)], placeOf);
}

function unsupported(plan: FaultPlan, ground: Ground): readonly Mistake[] {
  return plan.faults.flatMap((fault, index) => {
    const reason = supported(fault, ground);
    if (reason === true) return [];
    return [{ path: ['faults', index, 'fault'], message: `${fault.fault}: ${reason}` }];
  });
}
