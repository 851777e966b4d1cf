import { execFileSync } from 'node:child_process';

/**
 * Words before a command that run it as a user who runs nothing else, and may read everything. Limits
 * of threads count for users other than the administrator, over all that a user runs. Tests that run
 * side by side take different numbers.
 */
export function anotherUser(number: number): string[] {
  const uid = 60_000 + 8 * (process.pid % 500) + number;
  const read = '-all,+dac_read_search';
  return [
    ...['setpriv', `--reuid=${uid}`, '--regid=60000', '--clear-groups'],
    ...[`--inh-caps=${read}`, `--ambient-caps=${read}`],
  ];
}

/** Only the administrator can become another user. */
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
