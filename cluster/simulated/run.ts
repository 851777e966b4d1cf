import type { Committed, SimulatedEvent } from './event.ts';
import { type SimulatedOutcome, type SimulatedRun, Simulation } from './simulation.ts';

export type { SimulatedOutcome, SimulatedRun } from './simulation.ts';

/**
 * Returns the events of a run, each as a line of JSON. The same run gives the same lines, byte for
 * byte. The outfeed of a step is left out: of its values, only the loss matters here, and the event
 * `committed` has the loss too.
 */
export function logOf({ events }: SimulatedOutcome): string {
  const text = (event: SimulatedEvent | Committed): string =>
    JSON.stringify(event, (key, value) => (key === 'outfeed' ? undefined : value));
  return events.map((event) => `${text(event)}\n`).join('');
}

/** Simulates a run to its end: trains, then evaluates. */
export async function simulateRun(run: SimulatedRun): Promise<SimulatedOutcome> {
  const simulation = new Simulation(run);
  try {
    return await simulation.run();
  } finally {
    simulation.close();
  }
}
