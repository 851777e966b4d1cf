import { hasReader } from '../../cluster/host/has-reader.ts';
import { PodError } from '../numerics/error.ts';

/** Time, in ms, between two checks whether standard output still has a reader. */
const lookMs = 200;

/**
 * From this call on, ends the command with exit code 5 as soon as no process reads its standard
 * output any more. For commands that only show the work of other processes, so that this work goes
 * on. `next` is advice that is added to the error message.
 */
export function endWithReader(next?: string): void {
  const end = (why: string): never => {
    const advice = next === undefined ? '' : `; ${next}`;
    throw new PodError('io', `output was lost: standard output: ${why}${advice}`);
  };
  // An error that an event handler throws becomes an uncaught exception, which ends the command;
  // see src/cli/pod.ts.
  process.stdout.once('error', ({ message }) => end(message));
  const timer = setInterval(() => {
    if (!hasReader(1)) end('nobody reads it any more');
  }, lookMs);
  timer.unref();
}
