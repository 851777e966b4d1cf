import { hasReader } from '../../cluster/host/has-reader.ts';
import { PodError } from '../numerics/error.ts';

/** Time between two checks for a reader, in ms. */
const lookMs = 200;

/**
 * Makes this command end with exit code 5 as soon as nobody reads its standard output any more.
 * Meant for commands that only show what other processes do. `next` is advice that is added to the
 * message.
 */
export function endWithReader(next?: string): void {
  const end = (why: string): never => {
    const advice = next === undefined ? '' : `; ${next}`;
    throw new PodError('io', `output was lost: standard output: ${why}${advice}`);
  };
  // This error is thrown in an event handler, so it ends the command as an uncaught exception; see
  // src/cli/pod.ts.
  process.stdout.once('error', ({ message }) => end(message));
  const timer = setInterval(() => {
    if (!hasReader(1)) end('nobody reads it any more');
  }, lookMs);
  timer.unref();
}
