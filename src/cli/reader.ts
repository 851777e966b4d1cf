import { hasReader } from '../../cluster/host/has-reader.ts';
import { PodError } from '../numerics/error.ts';

/** Time, in ms, between two checks whether standard output still has a reader. */
const lookMs = 200;

/**
 * Ends the command with exit code 5 as soon as no process reads its standard output any more. Only
 * for commands that show the work of other processes, because that work goes on without the
 * command. `next` is advice that is added to the error message.
 */
export function endWithReader(next?: string): void {
  const end = (why: string): never => {
    const advice = next === undefined ? '' : `; ${next}`;
    throw new PodError('io', `output was lost: standard output: ${why}${advice}`);
  };
  // `end` throws. An error thrown in an event handler is an uncaught exception, and the handler for
  // uncaught exceptions in src/cli/pod.ts ends the command.
  process.stdout.once('error', ({ message }) => end(message));
  const timer = setInterval(() => {
    if (!hasReader(1)) end('nobody reads it any more');
  }, lookMs);
  timer.unref();
}
