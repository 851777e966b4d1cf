import { openThreadPod } from '../../cluster/threads/pool.ts';
import type { TrainEvent } from '../experiment/event.ts';
import { train } from '../experiment/train.ts';
import type { Fault } from '../fault/plan.ts';
import type { CommitSeen, Observation } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import type { TrainOptions } from './options.ts';

/** Trains in threads of this process, with the given faults, and records what happens. */
export async function inThreads(
  { config, relaxedSimd }: TrainOptions,
  faults: readonly Fault[],
  say: (line: string) => void,
): Promise<Observation> {
  const now = (): number => performance.timeOrigin + performance.now();
  const commits: CommitSeen[] = [];
  const notes: Observation['notes'][number][] = [];
  const stragglers: Observation['stragglers'][number][] = [];
  const injections: Observation['injections'][number][] = [];
  let beginMs = now();
  let endMs: number | undefined;
  let hasBegun = false;
  const openPod: Parameters<typeof train>[1]['openPod'] = (options) =>
    openThreadPod({
      ...options,
      ...{ relaxed: relaxedSimd, faults },
      onFault: (index, ms) => void injections.push({ index, ms }),
    });
  const result = (outcome: Observation['outcome'], message: string): Observation => ({
    ...{
      outcome,
      message,
      commits,
      notes,
      stragglers,
      injections: injections.sort((a, b) => a.ms - b.ms),
    },
    ...{ beginMs, endMs: endMs ?? now() },
  });
  const tell = (event: TrainEvent): void => {
    if (event.kind === 'ready') {
      beginMs = now();
      hasBegun = true;
    }
    if (event.kind === 'evaluating') endMs = now();
    if (event.kind === 'note') {
      const { note } = event;
      notes.push({ ms: now(), note });
      say(`${note.event}${note.tpu === null ? '' : ` Cloud TPU ${note.tpu}`}: ${note.cause}`);
    }
    if (event.kind === 'straggler') {
      stragglers.push({ ms: now(), tpu: event.tpu });
      say(`straggler Cloud TPU ${event.tpu}: the slowest for ${event.inARow} steps`);
    }
    if (event.kind !== 'step') return;
    const { step, digest, loss, wallMs } = event;
    commits.push({ step, digest, loss, wallMs, ms: now() });
  };
  try {
    await train(config, { openPod, now: () => performance.now(), tell });
    return result('done', '');
  } catch (error) {
    // An error before the first step is one of the plan or the machine, and ends the command.
    const isOfRun = error instanceof PodError && (error.exitCode === 3 || hasBegun);
    if (isOfRun) return result('failed', error.message);
    throw error;
  }
}
