import { execFileSync } from 'node:child_process';

/**
 * Returns the beginning of a command line that runs a command as another user. This user has no
 * other process and may read all files. Tests of the limit of threads need such a user for two
 * reasons. The limit does not apply to the administrator. And the limit counts the threads of all
 * processes of a user, so a user with other processes would reach it too early. Tests that run at
 * the same time must pass different values of `number`, so that each test has its own user.
 */
export function anotherUser(number: number): string[] {
  const uid = 60_000 + 8 * (process.pid % 500) + number;
  const read = '-all,+dac_read_search';
  return [
    ...['setpriv', `--reuid=${uid}`, '--regid=60000', '--clear-groups'],
    ...[`--inh-caps=${read}`, `--ambient-caps=${read}`],
  ];
}

/** True if this process can run commands as another user. Only the administrator can, on Linux. */
export const canBeAnother: boolean =
  process.platform === 'linux' && process.getuid?.() === 0 && works([...anotherUser(0), 'true']);

function works([program = '', ...args]: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
