import { hasReader } from '../../cluster/host/has-reader.ts';
import { PodError } from '../numerics/error.ts';

/** Between two looks at whether somebody reads, in ms. */
const lookMs = 200;

/**
 * From now on this command ends, with exit code 5, when nobody takes its standard output any more:
 * nothing is left to do for one that only follows others. `next`, if given, is said with it.
 */
export function endWithReader(next?: string): void {
  const end = (why: string): never => {
    const advice = next === undefined ? '' : `; ${next}`;
    throw new PodError('io', `output was lost: standard output: ${why}${advice}`);
  };
  // Thrown where nobody awaits, an error ends the command: see src/cli/pod.ts.
  process.stdout.once('error', ({ message }) => end(message));
  const timer = setInterval(() => {
    if (!hasReader(1)) end('nobody reads it any more');
  }, lookMs);
  timer.unref();
}
