import { formatTopology } from '../fabric/torus.ts';
import type { Pod } from '../pod/pod.ts';
import type { Keeper, LastStep, StartingPoint } from './checkpoint/keeper.ts';
import { cloudTpus } from './config.ts';
import type { CheckpointReport, Evaluated, PhaseMs, Report, StepCommitted } from './event.ts';
import type { Run } from './prepared.ts';
import { slowestOfRun } from './slowest-of-run.ts';
import { quantiles, sum } from './statistics.ts';

/** The records of a finished run from which its report is made. */
export interface RunRecords {
  readonly run: Run;
  readonly pod: Pod;
  readonly keeper: Keeper | undefined;
  readonly start: StartingPoint;
  /** Committed steps, including the steps that earlier masters committed. */
  readonly history: readonly StepCommitted[];
  readonly recoveries: number;
  readonly last: LastStep;
  readonly evaluated: Evaluated;
}

/** Returns the report of a finished run. */
export function reportOf(records: RunRecords): Report {
  const { run, pod, keeper, start, history, recoveries, last, evaluated } = records;
  const { config, steps, programs } = run;
  const wallMs = history.map((it) => it.wallMs);
  const slowest = slowestOfRun(history);
  const perPhase = (phase: keyof PhaseMs) => quantiles(history.map((it) => it.phaseMs[phase]));
  return {
    tpus: cloudTpus(config),
    topology: formatTopology(config.topology),
    model: config.model,
    data: config.data,
    globalBatch: config.globalBatch,
    steps,
    stepsTrained: history.length,
    seed: config.seed,
    precision: config.precision,
    mxu: config.mxu,
    finalLoss: last.loss,
    evalAccuracy: evaluated.accuracy,
    evalSamples: evaluated.samples,
    weightsDigest: last.digest,
    imagesPerSecond: imagesPerSecond(config.globalBatch, wallMs),
    stepMs: quantiles(wallMs),
    phaseMs: {
      infeed: perPhase('infeed'),
      compute: perPhase('compute'),
      'all-reduce': perPhase('all-reduce'),
      update: perPhase('update'),
      outfeed: perPhase('outfeed'),
      commit: perPhase('commit'),
    },
    linkBytes: pod.linkBytes(),
    ...(slowest && { slowest }),
    hbmBytesPerCore: programs.train.hbm.peak,
    recoveries,
    ...(keeper && { checkpoints: checkpointReport(start, keeper) }),
  };
}

/**
 * Returns the mean number of images per second. Returns 0 if this run trained no step, because it
 * was resumed from a checkpoint of the last step.
 */
function imagesPerSecond(globalBatch: number, wallMs: readonly number[]): number {
  if (wallMs.length === 0) return 0;
  return (wallMs.length * globalBatch * 1000) / sum(wallMs);
}

function checkpointReport(
  { resumedFrom, refused }: StartingPoint,
  keeper: Keeper,
): CheckpointReport {
  return { resumedFrom, refused, ...keeper.counts() };
}
