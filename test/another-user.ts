import { execFileSync } from 'node:child_process';

/**
 * Prefix of a command (as words) that runs the command as a user who runs nothing else and may read
 * all files. Tests of thread limits need such a user: a limit applies to all processes of a user
 * together, and not to the administrator. Tests that run at the same time must use different
 * numbers.
 */
export function anotherUser(number: number): string[] {
  const uid = 60_000 + 8 * (process.pid % 500) + number;
  const read = '-all,+dac_read_search';
  return [
    ...['setpriv', `--reuid=${uid}`, '--regid=60000', '--clear-groups'],
    ...[`--inh-caps=${read}`, `--ambient-caps=${read}`],
  ];
}

/** True if the tests can run commands as another user, which only the administrator can. */
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
