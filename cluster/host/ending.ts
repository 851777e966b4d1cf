import { readFileSync } from 'node:fs';
import { standardFile } from './standard-file.ts';

/** The signals that ask a run to end. */
export const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type EndSignal = (typeof endSignals)[number];

/**
 * Returns the exit code of a process that ends because of a signal: 130 for SIGINT, 143 for SIGTERM
 * and SIGHUP.
 */
export function exitCodeOf(signal: EndSignal): number {
  return signal === 'SIGINT' ? 130 : 143;
}

/**
 * True if `code` is one of the exit codes of {@link exitCodeOf}, which say that a signal ended the
 * run before its work was done.
 */
export function isStopCode(code: number): boolean {
  return code === 130 || code === 143;
}

/**
 * Calls `end` at the first signal that asks this process to end, and `again` at every later signal.
 * If `again` is omitted, the second signal ends the process at once with the exit code of the
 * signal. SIGHUP is ignored if this process was started to outlive its terminal, as with `nohup`.
 * Returns a function that removes these handlers of signals.
 */
export function onEnd(
  end: (signal: EndSignal) => void,
  again: (signal: EndSignal) => void = (signal) => process.exit(exitCodeOf(signal)),
): () => void {
  let isAsked = false;
  const ignoresHangUp = asksToIgnoreHangUp();
  const take = (signal: EndSignal): void => {
    if (signal === 'SIGHUP' && ignoresHangUp) return;
    const tell = isAsked ? again : end;
    isAsked = true;
    tell(signal);
  };
  for (const signal of endSignals) process.on(signal, take);
  return () => {
    for (const signal of endSignals) process.off(signal, take);
  };
}

/**
 * True if this process is meant to outlive its terminal, as with `nohup`.
 *
 * A process started by `nohup` inherits that SIGHUP is ignored. But Node restores the default
 * action of SIGHUP when it starts, so this process cannot see what it inherited. Instead, one of
 * three signs is enough:
 *
 * - The variable `_`, in which a shell stores the name of the command, names `nohup`.
 * - Standard input is a `/dev/null` opened for writing only, as `nohup` leaves it [coreutils,
 *   nohup.c].
 * - The parent process ignores SIGHUP.
 */
export function asksToIgnoreHangUp(env: NodeJS.ProcessEnv = process.env): boolean {
  if (/(^|\/)nohup$/.test(env['_'] ?? '')) return true;
  const input = standardFile(0);
  if (input?.path === '/dev/null' && input.access === 'write') return true;
  return ignoresHangUp(process.ppid);
}

/**
 * True if process `pid` ignores SIGHUP: bit 0 of the mask `SigIgn` in /proc is then set [proc(5)].
 * False if the system has no /proc.
 */
function ignoresHangUp(pid: number): boolean {
  try {
    const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number.parseInt(ignored?.[1]?.slice(-1) ?? '0', 16) % 2 === 1;
  } catch {
    return false;
  }
}
