import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FaultFile, faultsVariable, readLedger } from '../../cluster/threads/fault-file.ts';
import type { Fault } from '../fault/plan.ts';
import type { CommitSeen, Observation } from '../fault/verdict.ts';
import { PodError } from '../numerics/error.ts';
import type { Note } from '../pod/master/action.ts';
import type { Settings } from './settings/merge.ts';
import { wordsOf } from './settings/words.ts';

/**
 * Trains in processes of this machine (`pod up`), with the given faults, and records what the log of
 * the master says. Rejects with the PodError of a run that was refused.
 */
export async function inProcesses(
  settings: Settings,
  faults: readonly Fault[],
  say: (line: string) => void,
): Promise<Observation> {
  const folder = mkdtempSync(join(tmpdir(), 'pod-chaos-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  try {
    const ledger = join(folder, 'injected');
    const file: FaultFile = { faults, ledger };
    writeFileSync(join(folder, 'faults.json'), JSON.stringify(file));
    const program = fileURLToPath(new URL('./main.cjs', import.meta.url));
    const pod = join(folder, 'pod');
    const words = ['up', '--wait', '--json', '--dir', pod, ...wordsOf(settings)];
    const child = spawn(process.execPath, [program, ...words], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, [faultsVariable]: join(folder, 'faults.json') },
    });
    let complaint = '';
    child.stderr?.on('data', (piece: Buffer) => {
      complaint += piece;
    });
    const [code] = (await once(child, 'close')) as [number | null];
    // A signal ends `pod up` and this command alike, with the same exit code.
    if (code === 130 || code === 143) process.exit(code);
    if (code !== 0 && code !== 3) {
      const why = complaint.trim().split('\n').at(-1) ?? '';
      throw new PodError(
        code === 4 ? 'out-of-memory' : 'bad-plan',
        `pod up ended with ${code}: ${why}`,
      );
    }
    const lines = linesOf(join(pod, 'master.log'));
    const seen = observationOf(lines, code === 0 ? '' : complaint.trim());
    for (const { note } of seen.notes) say(describe(note));
    return { ...seen, injections: [...readLedger(ledger)].sort((a, b) => a.ms - b.ms) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A line of the master's log. */
interface Line {
  readonly time: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

function linesOf(path: string): readonly Line[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Line);
}

const noteEvents: readonly string[] = [
  'lost',
  'suspected',
  'quarantined',
  'adopted',
  'replaced',
  'restored',
  'rolled-back',
  'resumed',
] satisfies readonly Note['event'][];

function observationOf(lines: readonly Line[], failure: string): Omit<Observation, 'injections'> {
  const timeOf = (msg: string): number | undefined => lines.find((it) => it.msg === msg)?.time;
  const last = lines.at(-1)?.time ?? 0;
  return {
    outcome: failure === '' ? 'done' : 'failed',
    message: failure,
    commits: lines
      .filter(({ msg }) => msg === 'step')
      .map((line) => ({ ...(line as unknown as CommitSeen), ms: line.time })),
    notes: lines
      .filter(({ msg }) => noteEvents.includes(msg))
      .map((line) => ({ ms: line.time, note: line as unknown as Note })),
    stragglers: lines
      .filter(({ msg }) => msg === 'straggler')
      .map((line) => ({ ms: line.time, tpu: Number(line['tpu']) })),
    beginMs: timeOf('ready') ?? last,
    endMs: timeOf('evaluating') ?? last,
  };
}

function describe({ event, tpu, cause }: Note): string {
  return `${event}${tpu === null ? '' : ` Cloud TPU ${tpu}`}: ${cause}`;
}
