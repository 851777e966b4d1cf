import { CommanderError } from 'commander';
import { PodError } from '../src/numerics/error.ts';

/**
 * True if a run that failed with `error` has failed for good, because a new master that continued
 * it would fail in the same way. Four kinds of errors are not final:
 *
 * - an error that is no PodError, because it is a crash;
 * - `io`, because writing may succeed once the disk has room;
 * - `superseded`, because a newer master already continues the run;
 * - `in-use`, because the older master that has locked the folder of the checkpoints will end.
 */
export function isFinal(error: unknown): error is PodError {
  return error instanceof PodError && !['io', 'superseded', 'in-use'].includes(error.code);
}

/**
 * True if a master that ends with `error` ends the whole pod, because a restarted master would fail
 * too. False for a crash, after which the master is restarted. False also for `superseded`: the
 * workers belong to a newer master then.
 */
export function endsPod(error: unknown): error is PodError | CommanderError {
  if (error instanceof CommanderError) return true;
  return error instanceof PodError && error.code !== 'superseded';
}

/**
 * True if the run may have failed with `error` only because workers have ended. A signal that ends
 * a pod often reaches the workers before the master. After a signal, the master therefore does not
 * count these errors as a failure of the run.
 */
export function isOfEndedWorkers(error: unknown): boolean {
  const codes: readonly string[] = [
    'worker-threw',
    'worker-exited',
    'worker-silent',
    'link-timeout',
  ];
  return error instanceof PodError && codes.includes(error.code);
}

/**
 * Exit codes after which a process is not restarted: 0 is success, 2 to 5 are failures that a
 * restart would repeat, and 130 and 143 mean that a signal asked the process to end.
 */
export const finalExitCodes: readonly number[] = [0, 2, 3, 4, 5, 130, 143];
