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

/** State of a run, read from the log lines of its successive masters while the run goes on. */
export class Story {
  readonly lines: Line[] = [];
  /**
   * The last `joined` line about each Cloud TPU. The key is the number of the Cloud TPU. Lost Cloud
   * TPUs have no entry.
   */
  readonly joined: Map<number, Line> = new Map();
  /** Exit code of the last master. Undefined until the run has ended. */
  exitCode: number | undefined;
  /** Number of the last committed step; 0 if none. */
  step = 0;
  /**
   * True if a step was committed after the last trouble. Trouble is a loss, a suspicion, a
   * quarantine, or a new master that continues the run.
   */
  isCalm = false;

  /** Updates this state from a line of the master's log. Ignores a line that is not JSON. */
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

  /** Number of lines so far. `after` takes this number and returns the lines added since. */
  get mark(): number {
    return this.lines.length;
  }

  after(mark: number): readonly Line[] {
    return this.lines.slice(mark);
  }

  /**
   * Waits until `isSo` returns true. Throws if the run ends first, or if `withinMs` pass first.
   * `what` names the expected state in the error message, such as "step 3".
   */
  async until(what: string, isSo: () => boolean, withinMs: number): Promise<void> {
    for (const deadlineMs = performance.now() + withinMs; !isSo(); await sleep(10)) {
      const last = JSON.stringify(this.lines.at(-1));
      if (this.exitCode !== undefined)
        throw new Error(
          `expected ${what}, found the end of the run; last line of the log: ${last}`,
        );
      if (performance.now() > deadlineMs) {
        throw new Error(
          `expected ${what} within ${milliseconds(withinMs)}; last line of the log: ${last}`,
        );
      }
    }
  }

  /**
   * Returns what is wrong with a run that has ended, or undefined if nothing is wrong. The run must
   * end with exit code 0, a summary and weights with the digest `expected`. Its log must have every
   * step once, in order. A master that is killed just after a commit may not have logged this step.
   * The line `commits-found` of the next master then counts as the line of the step.
   */
  wrong(expected: string | undefined): string | undefined {
    const last = this.lines.at(-1);
    if (this.exitCode !== 0) return `the master ended with exit code ${this.exitCode}`;
    if (last?.msg !== 'summary')
      return `expected the last line of the log to be the summary, found ${last?.msg}`;
    if (expected !== undefined && last.weightsDigest !== expected) {
      return `expected weights with digest ${expected}, found ${last.weightsDigest}`;
    }
    let committed = 0;
    for (const { msg, step } of this.lines) {
      if (typeof step !== 'number') continue;
      if (msg === 'step' && step !== committed + 1)
        return `expected step ${committed + 1} after step ${committed}, found step ${step}`;
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

/**
 * True if a line reports a loss, a suspicion, a quarantine, or a new master that continues the run.
 */
export function isTrouble({ msg }: Line): boolean {
  return ['lost', 'suspected', 'quarantined', 'commits-found'].includes(msg);
}
