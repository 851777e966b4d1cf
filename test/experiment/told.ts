import type { TrainConfig } from '../../src/experiment/config.ts';
import type { TrainEvent } from '../../src/experiment/event.ts';
import { type TrainWorld, train } from '../../src/experiment/train.ts';

/** Returned by `during` to abandon a run, as if its process were killed. */
export const abandon: unique symbol = Symbol('abandon');

/**
 * Trains, and adds the events of the run to `events`: those that `train` tells, and `finished`, which
 * the caller of `train` tells. Calls `during` with each event. Throws the error of the run, also if
 * only its last checkpoint could not be saved.
 */
export async function trainInto(
  events: TrainEvent[],
  config: TrainConfig,
  world: Omit<TrainWorld, 'tell'>,
  during: (event: TrainEvent) => unknown = () => undefined,
): Promise<TrainEvent[]> {
  const killed = new Error('abandoned');
  const tell = (event: TrainEvent): void => {
    events.push(event);
    if (during(event) === abandon) throw killed;
  };
  try {
    const end = await train(config, { ...world, tell });
    if (end.kind === 'done') {
      tell({ kind: 'finished', report: end.report });
      if (end.unsaved !== undefined) throw end.unsaved;
    }
  } catch (error) {
    if (error !== killed) throw error;
  }
  return events;
}
