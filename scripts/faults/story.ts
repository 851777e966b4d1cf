import { setTimeout as sleep } from 'node:timers/promises';
import { milliseconds } from '../../src/observe/format.ts';

/** The fields of a line of a master's log that the fault scripts read. */
export interface Line {
  /** Time of the machine's clock, in ms since 1970. */
  readonly time: number;
  readonly msg: string;
  readonly step?: number | null;
  readonly steps?: number;
  readonly digest?: string;
  readonly weightsDigest?: string;
  readonly tpu?: number | null;
  readonly cause?: string;
  readonly host?: string;
  readonly pid?: number;
}

/** State of a run, as the log lines of its successive masters tell it. It grows while they log. */
export class Story {
  readonly lines: Line[] = [];
  /** The last `joined` line of each Cloud TPU that is not lost, by number of the Cloud TPU. */
  readonly joined: Map<number, Line> = new Map();
  /** Exit code of the last master. Undefined until the run has ended. */
  exitCode: number | undefined;
  /** Number of the last committed step; 0 if none. */
  step = 0;
  /** True if a step was committed and no loss or suspicion was logged since. */
  isCalm = false;

  /** Takes a line of the log. Ignores lines that are not JSON, which are written for people. */
  hear(text: string): void {
    if (!text.startsWith('{')) return;
    const line = JSON.parse(text) as Line;
    this.lines.push(line);
    if (line.msg === 'joined' && typeof line.tpu === 'number') this.joined.set(line.tpu, line);
    if (isTrouble(line)) this.isCalm = false;
    if (line.msg === 'lost' && typeof line.tpu === 'number') this.joined.delete(line.tpu);
    if (line.msg !== 'step') return;
    this.step = line.step ?? 0;
    this.isCalm = true;
  }

  /** Number of lines so far. `after(mark)` later returns the lines that came since. */
  get mark(): number {
    return this.lines.length;
  }

  after(mark: number): readonly Line[] {
    return this.lines.slice(mark);
  }

  /**
   * Waits until `isSo` returns true. Throws if the run ends before, or after `withinMs`. `what` is
   * the name of the expected state in the error message, such as "at rest".
   */
  async until(what: string, isSo: () => boolean, withinMs: number): Promise<void> {
    for (const deadlineMs = performance.now() + withinMs; !isSo(); await sleep(10)) {
      const last = JSON.stringify(this.lines.at(-1));
      if (this.exitCode !== undefined) throw new Error(`it ended before ${what}; last: ${last}`);
      if (performance.now() > deadlineMs) {
        throw new Error(`not ${what} within ${milliseconds(withinMs)}; last: ${last}`);
      }
    }
  }

  /**
   * Returns what is wrong with a run that has ended, or undefined. The run must end with exit code
   * 0, a summary and the weights `expected`, and every step must be committed once, in order. A
   * killed master may not have logged its last commit; then the next master logs it as found.
   */
  wrong(expected: string | undefined): string | undefined {
    const last = this.lines.at(-1);
    if (this.exitCode !== 0) return `the master ended with ${this.exitCode}`;
    if (last?.msg !== 'summary') return `the last line is ${last?.msg}, no summary`;
    if (expected !== undefined && last.weightsDigest !== expected) {
      return `digest ${last.weightsDigest}, expected ${expected}`;
    }
    let committed = 0;
    for (const { msg, step } of this.lines) {
      if (typeof step !== 'number') continue;
      if (msg === 'step' && step !== committed + 1) return `step ${step} after step ${committed}`;
      if (msg === 'commits-found' && step !== committed && step !== committed + 1) {
        return `a master found ${step} committed steps, the previous master had logged ${committed}`;
      }
      if (msg === 'step' || msg === 'commits-found') committed = step;
    }
    return undefined;
  }

  get digest(): string | undefined {
    return this.lines.findLast(({ msg }) => msg === 'summary')?.weightsDigest;
  }
}

/** True if a line reports a loss, a suspicion or a quarantine, or that a new master took over. */
export function isTrouble({ msg }: Line): boolean {
  return ['lost', 'suspected', 'quarantined', 'commits-found'].includes(msg);
}
