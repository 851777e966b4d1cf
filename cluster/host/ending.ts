import { readFileSync } from 'node:fs';
import { standardFile } from './standard-file.ts';

/** The signals that ask a run to end. */
export const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type EndSignal = (typeof endSignals)[number];

/** Exit code of what ended because it was asked to: a hang-up counts as SIGTERM. */
export function exitCodeOf(signal: EndSignal): number {
  return signal === 'SIGINT' ? 130 : 143;
}

/** Whether an exit code says that a run ended because it was asked to, before its work was done. */
export function isStopCode(code: number): boolean {
  return code === 130 || code === 143;
}

/**
 * Calls `end` for the first signal that asks this process to end, and `again` for each one after it:
 * unless given, that ends the process at once, with the code of the signal. A hang-up is ignored
 * where the user asked for that.
 */
export function onEnd(
  end: (signal: EndSignal) => void,
  again: (signal: EndSignal) => void = (signal) => process.exit(exitCodeOf(signal)),
): void {
  let isAsked = false;
  const ignoresHangUp = asksToIgnoreHangUp();
  for (const signal of endSignals) {
    process.on(signal, () => {
      if (signal === 'SIGHUP' && ignoresHangUp) return;
      const tell = isAsked ? again : end;
      isAsked = true;
      tell(signal);
    });
  }
}

/**
 * Whether the user started this process so that it outlives its terminal, as `nohup` does.
 *
 * Node gives an ignored SIGHUP its default effect back before any of our code runs, so the process
 * cannot see it in itself. What `nohup` leaves behind can be seen: its name in the variable `_`
 * that shells set, or a standard input that was replaced by an unreadable `/dev/null`
 * [coreutils, nohup.c]. A parent that ignores the signal handed that on.
 */
export function asksToIgnoreHangUp(env: NodeJS.ProcessEnv = process.env): boolean {
  if (/(^|\/)nohup$/.test(env['_'] ?? '')) return true;
  const input = standardFile(0);
  if (input?.path === '/dev/null' && input.access === 'write') return true;
  return ignoresHangUp(process.ppid);
}

/** Bit 0 of the signals that a process ignores is SIGHUP [proc(5)]. */
function ignoresHangUp(pid: number): boolean {
  try {
    const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number.parseInt(ignored?.[1]?.slice(-1) ?? '0', 16) % 2 === 1;
  } catch {
    return false;
  }
}
