import { exitCodeOf, onEnd } from '../../cluster/host/ending.ts';
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
  const stop = onEnd((signal) => interrupt(new Interrupted(exitCodeOf(signal))));
  try {
    return await work(asked);
  } finally {
    stop();
  }
}
