/**
 * What a fault does to a container as long as it lasts: the container has ended (`down`), stands
 * still (`paused`), or has no network (`cut`).
 */
export type Hold = 'down' | 'paused' | 'cut';

/** State of a container, as far as faults change it. */
export interface ContainerState {
  readonly runs: boolean;
  readonly isPaused: boolean;
  readonly hasNetwork: boolean;
}

/** State of a container to which no fault applies. */
export const sound: ContainerState = { runs: true, isPaused: false, hasNetwork: true };

/** A Docker command that changes the state of a container. */
export type Action = 'kill' | 'start' | 'pause' | 'unpause' | 'disconnect' | 'connect';

/**
 * Returns the state in which a container must be while these holds apply. Faults can overlap on one
 * container and can end in any order, so the state follows from all holds together.
 */
export function stateUnder(holds: readonly Hold[]): ContainerState {
  const runs = !holds.includes('down');
  return {
    runs,
    isPaused: runs && holds.includes('paused'),
    hasNetwork: !holds.includes('cut'),
  };
}

/** Returns the commands that bring a container from one state to another, in order. */
export function actionsBetween(from: ContainerState, to: ContainerState): readonly Action[] {
  const ends = from.runs && !to.runs;
  const begins = !from.runs && to.runs;
  // A container that is killed is paused no more, and a container that is started is not paused.
  const wasPaused = from.isPaused && !ends;
  return [
    ...(ends ? (['kill'] as const) : []),
    ...(from.hasNetwork && !to.hasNetwork ? (['disconnect'] as const) : []),
    ...(!from.hasNetwork && to.hasNetwork ? (['connect'] as const) : []),
    ...(begins ? (['start'] as const) : []),
    ...(!wasPaused && to.isPaused ? (['pause'] as const) : []),
    ...(wasPaused && !to.isPaused ? (['unpause'] as const) : []),
  ];
}
