import type { TrainConfig } from '../../src/experiment/config.ts';
import type { TrainEvent } from '../../src/experiment/event.ts';
import { type TrainWorld, train } from '../../src/experiment/train.ts';

/**
 * Value that the callback `during` of {@link trainInto} returns to abandon the run, as if the
 * process were killed.
 */
export const abandon: unique symbol = Symbol('abandon');

/**
 * Trains, and adds all events of the run to `events`. Calls `during` with each event. Throws the
 * error of the run. If the run succeeds, but its last checkpoint cannot be saved, throws the error
 * of the save.
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
