import { absoluteMs } from '../../cluster/runtime/fault-file.ts';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import type { OpenedRun } from '../experiment/open-run.ts';
import { train } from '../experiment/train.ts';
import type { Fault } from '../fault/plan.ts';
import type { SeenEvent } from '../fault/seen.ts';
import type { Observation } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import { failed, type RunFact } from '../run/event.ts';
import type { RunStream } from '../run/stream.ts';
import { hasBegun, observationOf, seenOf, type Told } from './chaos-observation.ts';
import { openPlan } from './checkpoint-plan.ts';
import type { TrainOptions } from './options.ts';

/** A run in threads. */
interface ThreadedRun {
  readonly opened: OpenedRun;
  readonly options: Pick<TrainOptions, 'relaxedSimd' | 'checkpoint'>;
}

/**
 * Trains in threads of this process, with the given faults, and returns what was seen of the run.
 * If `tell` throws an error, the run ends. All events of the run are told to `record` too.
 */
export async function inThreads(
  { opened, options: { relaxedSimd: relaxed, checkpoint } }: ThreadedRun,
  faults: readonly Fault[],
  tell: (event: SeenEvent) => void,
  record?: RunStream,
): Promise<Observation> {
  const told: Told[] = [];
  const injections: Observation['injections'][number][] = [];
  const take = (event: RunFact): void => {
    const it: Told = { ms: absoluteMs(), event };
    told.push(it);
    record?.tell(event);
    const seen = seenOf(it);
    if (seen !== undefined) tell(seen);
  };
  const onFault = (index: number, ms: number): void => void injections.push({ index, ms });
  const checkpoints = checkpoint && (await openPlan(checkpoint, 'a run with faults'));
  try {
    const end = await train(opened.config, {
      ...{ opened, tell: take, now: () => performance.now() },
      openPod: (pod) => openThreadPod({ ...pod, relaxed, faults, onFault }),
      onMembership(generation) {
        if (record !== undefined) record.generation = generation;
      },
      ...(checkpoints && { checkpoints }),
    });
    if (end.kind === 'done') record?.tell({ kind: 'finished', report: end.report });
    return observationOf(told, injections, '');
  } catch (error) {
    record?.tell(failed(error));
    // If Cloud TPUs have failed (exit code 3), or if the run came as far as its first step, the
    // error is a result of the run. The fault plan judges it. Any other error comes from the plan
    // or the machine, and ends the command.
    const isResult = error instanceof PodError && (error.exitCode === 3 || hasBegun(told));
    if (isResult) return observationOf(told, injections, error.message);
    throw error;
  } finally {
    checkpoints?.checkpoints.close();
  }
}
