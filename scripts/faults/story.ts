import { setTimeout as sleep } from 'node:timers/promises';
import { milliseconds } from '../../src/observe/format.ts';

/** A line of a master's log, of what is read here. */
export interface Line {
  /** Of the machine's clock, in ms of the epoch. */
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

/** What masters say of a run, one after another, while they say it. */
export class Story {
  readonly lines: Line[] = [];
  /** By Cloud TPU: where its worker said that it has joined. */
  readonly joined: Map<number, Line> = new Map();
  /** The exit code of the last master, when it has ended for good. */
  exitCode: number | undefined;
  /** The last step that was committed. */
  step = 0;
  /** A step has been committed, and nothing was lost or suspected since. */
  isCalm = false;

  /** Takes a line; what is not JSON is for people. */
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

  /** How many lines there are: what comes later is after it. */
  get mark(): number {
    return this.lines.length;
  }

  after(mark: number): readonly Line[] {
    return this.lines.slice(mark);
  }

  /** Waits until it is so. Throws when the run has ended, or time is up. */
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
   * What is wrong with a run that has ended: every step must be committed once, in order. A master
   * that is killed may have no time to tell of a commit that the next one finds.
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
        return `a master found ${step} steps, the one before had told of ${committed}`;
      }
      if (msg === 'step' || msg === 'commits-found') committed = step;
    }
    return undefined;
  }

  get digest(): string | undefined {
    return this.lines.findLast(({ msg }) => msg === 'summary')?.weightsDigest;
  }
}

/** Something went wrong, or a new master has to find out. */
export function isTrouble({ msg }: Line): boolean {
  return ['lost', 'suspected', 'quarantined', 'commits-found'].includes(msg);
}
