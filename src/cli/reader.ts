import { hasReader } from '../../cluster/host/has-reader.ts';
import { PodError } from '../numerics/error.ts';

/** Time between two checks for a reader, in ms. */
const lookMs = 200;

/**
 * From now on this command ends with exit code 5 when its standard output has no reader any more. For a
 * command that only shows what others do, nothing is left to do then. `next` is added to the message.
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
