import { absoluteMs } from '../../cluster/threads/fault-file.ts';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import type { OpenedRun } from '../experiment/open-run.ts';
import { train } from '../experiment/train.ts';
import type { Fault } from '../fault/plan.ts';
import type { Observation } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import type { RunFact } from '../run/event.ts';
import { hasBegun, lineOf, observationOf, type Told } from './chaos-observation.ts';

/** Trains in threads of this process, with the given faults, and records what happens. */
export async function inThreads(
  { opened, relaxed }: { readonly opened: OpenedRun; readonly relaxed: boolean },
  faults: readonly Fault[],
  say: (line: string) => void,
): Promise<Observation> {
  const told: Told[] = [];
  const injections: Observation['injections'][number][] = [];
  const tell = (event: RunFact): void => {
    told.push({ ms: absoluteMs(), event });
    const line = lineOf(event);
    if (line !== undefined) say(line);
  };
  const onFault = (index: number, ms: number): void => void injections.push({ index, ms });
  try {
    await train(opened.config, {
      ...{ opened, tell, now: () => performance.now() },
      openPod: (options) => openThreadPod({ ...options, relaxed, faults, onFault }),
    });
    return observationOf(told, injections, '');
  } catch (error) {
    // An error is a result of the run, which the plan judges, if its exit code is 3 (Cloud TPUs
    // failed) or if the run came as far as its first step. Any other error comes from the plan or
    // the machine, and ends the command.
    const isOfRun = error instanceof PodError && (error.exitCode === 3 || hasBegun(told));
    if (isOfRun) return observationOf(told, injections, error.message);
    throw error;
  }
}
