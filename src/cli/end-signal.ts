import {
  asksToIgnoreHangUp,
  type EndSignal,
  endSignals,
  exitCodeOf,
} from '../../cluster/host/ending.ts';
import { Interrupted } from './interrupted.ts';

/**
 * Does some work that a signal may interrupt. `work` gets a promise that rejects with
 * {@link Interrupted} at the first signal that asks this process to end, and cleans up then. A
 * second signal ends the process at once.
 */
export async function withEndSignal<T>(work: (signal: Promise<never>) => Promise<T>): Promise<T> {
  let interrupt: (error: Interrupted) => void = () => undefined;
  const asked = new Promise<never>((_, reject) => {
    interrupt = reject;
  });
  asked.catch(() => undefined);
  let isAsked = false;
  const ignoresHangUp = asksToIgnoreHangUp();
  const end = (signal: EndSignal): void => {
    if (signal === 'SIGHUP' && ignoresHangUp) return;
    if (isAsked) process.exit(exitCodeOf(signal));
    isAsked = true;
    interrupt(new Interrupted(exitCodeOf(signal)));
  };
  for (const signal of endSignals) process.on(signal, end);
  try {
    return await work(asked);
  } finally {
    for (const signal of endSignals) process.off(signal, end);
  }
}
