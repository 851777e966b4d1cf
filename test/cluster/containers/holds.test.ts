import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Action,
  actionsBetween,
  type ContainerState,
  type Hold,
  sound,
  stateUnder,
} from '../../../cluster/containers/holds.ts';

/** Does what Docker does for a command. Fails where Docker refuses the command. */
function after(state: ContainerState, action: Action): ContainerState {
  const { runs, isPaused, hasNetwork } = state;
  switch (action) {
    case 'kill':
      expect(runs).toBe(true);
      return { ...state, runs: false, isPaused: false };
    case 'start':
      expect(runs).toBe(false);
      return { ...state, runs: true };
    case 'pause':
      expect({ runs, isPaused }).toEqual({ runs: true, isPaused: false });
      return { ...state, isPaused: true };
    case 'unpause':
      expect({ runs, isPaused }).toEqual({ runs: true, isPaused: true });
      return { ...state, isPaused: false };
    case 'disconnect':
      expect(hasNetwork).toBe(true);
      return { ...state, hasNetwork: false };
    case 'connect':
      expect(hasNetwork).toBe(false);
      return { ...state, hasNetwork: true };
  }
}

const hold = fc.constantFrom<Hold>('down', 'paused', 'cut');
const faults = fc.array(fc.record({ hold, ends: fc.nat() }), { maxLength: 6 });

test('faults overlap on one container and end in any order, and Docker refuses no command', () => {
  fc.assert(
    fc.property(faults, (all) => {
      const held: Hold[] = [];
      let state = sound;
      const bring = (): void => {
        const target = stateUnder(held);
        state = actionsBetween(state, target).reduce(after, state);
        expect(state).toEqual(target);
      };
      for (const it of all) {
        held.push(it.hold);
        bring();
      }
      for (const it of [...all].sort((a, b) => a.ends - b.ends)) {
        held.splice(held.indexOf(it.hold), 1);
        bring();
      }
      expect(state).toEqual(sound);
    }),
  );
});

test('a container that two faults pause goes on when both have ended', () => {
  expect(actionsBetween(sound, stateUnder(['paused']))).toEqual(['pause']);
  expect(actionsBetween(stateUnder(['paused', 'paused']), stateUnder(['paused']))).toEqual([]);
  expect(actionsBetween(stateUnder(['paused']), stateUnder([]))).toEqual(['unpause']);
});
