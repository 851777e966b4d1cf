import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../../src/numerics/assert.ts';
import type { Break, Rig } from './rig.ts';
import { isTrouble, type Line, type Story } from './story.ts';

/** A fault that is injected into a pod while it trains. */
export type Fault =
  | {
      readonly kind: 'worker';
      readonly how: Break;
      /**
       * Time, in ms, from the injection until the script starts, resumes or reconnects the broken
       * worker. If the pod has not recovered by then, the script first waits for the recovery.
       */
      readonly lastsMs: number;
      /** True if a second worker is broken while the pod recovers from the loss of the first. */
      readonly isDouble: boolean;
    }
  | { readonly kind: 'master' };

export const faults: Readonly<Record<string, Fault>> = {
  kill: { kind: 'worker', how: 'kill', lastsMs: 0, isDouble: false },
  crash: { kind: 'worker', how: 'crash', lastsMs: 0, isDouble: false },
  'pause 10 s': { kind: 'worker', how: 'pause', lastsMs: 10_000, isDouble: false },
  stop: { kind: 'worker', how: 'stop', lastsMs: 0, isDouble: false },
  'disconnect 5 s': { kind: 'worker', how: 'disconnect', lastsMs: 5000, isDouble: false },
  'second kill': { kind: 'worker', how: 'kill', lastsMs: 0, isDouble: true },
  'master killed': { kind: 'master' },
};

/** Outcome of one injected fault. Times are in ms after the injection. */
export interface Injection {
  readonly who: string;
  readonly wrong: string | undefined;
  readonly noticedMs: number;
  readonly recoveredMs: number;
  /** True if no replacement joined in time and another worker adopted the lost Cloud TPU. */
  readonly isAdopted: boolean;
  /** Number of steps that ran more than once because of this fault. */
  readonly ranAgain: number;
  /**
   * What the master has logged about losses and suspicions of other Cloud TPUs, into which no fault
   * was injected: one text for each log line.
   */
  readonly others: readonly string[];
}

export interface Target {
  readonly rig: Rig;
  readonly story: Story;
  /** Index of this injection among all injections of the same fault, from 0. */
  readonly i: number;
}

const recoverMsLimit = 60_000;
/** Time, in ms, within which a worker that was put back must be a member or a spare again. */
const returnMsLimit = 60_000;

/**
 * Waits until no Cloud TPU is lost or suspected, then pauses up to 0.5 s, injects a fault, and
 * waits until the pod has recovered. The length of the pause depends on the index of the injection.
 * So different injections hit different moments of a step. Throws if the pod does not recover
 * within `recoverMsLimit`.
 */
export async function inject(fault: Fault, target: Target): Promise<Injection> {
  const { story, i } = target;
  await story.until(
    'a pod without lost or suspected Cloud TPUs',
    () => story.isCalm,
    recoverMsLimit,
  );
  await sleep((i * 137) % 500);
  return fault.kind === 'master' ? injectIntoMaster(target) : injectIntoWorker(fault, target);
}

async function injectIntoMaster({ rig, story }: Target): Promise<Injection> {
  const begun = story.lines.findLast(({ msg }) => msg === 'listening')?.time ?? 0;
  await sleep(Math.min(rig.masterLifeMsMin, Math.max(0, begun + rig.masterLifeMsMin - Date.now())));
  const mark = story.mark;
  const time = await rig.killMaster();
  await story.until(
    'another master that continues the run',
    () => said(story, mark, 'commits-found'),
    recoverMsLimit,
  );
  await story.until('a complete pod again', () => story.isCalm, recoverMsLimit);
  return result('the master', time, story.after(mark), new Set());
}

async function injectIntoWorker(
  { how, lastsMs, isDouble }: Fault & { kind: 'worker' },
  target: Target,
): Promise<Injection> {
  const { rig, story, i } = target;
  const mark = story.mark;
  const first = await breakOne(target, how, await pick(target, i, []));
  const broken = [first];
  if (isDouble) {
    const moment = at(moments, i);
    await story.until(
      `the log line “${moment.join('” or “')}”`,
      () => moment.some((it) => said(story, mark, it)),
      recoverMsLimit,
    );
    broken.push(await breakOne(target, how, await pickSecond(target, mark, first.who)));
  }
  const tpus = new Set(broken.flatMap((it) => it.tpus));
  const isNamed = (): boolean =>
    [...tpus].every((tpu) => story.after(mark).some((it) => isLost(it, tpu)));
  await story.until('a log line for each lost Cloud TPU', isNamed, recoverMsLimit);
  await story.until('a complete pod again', () => story.isCalm, recoverMsLimit);
  const ofRecovery = story.after(mark).length;
  await sleep(Math.min(lastsMs, Math.max(0, first.time + lastsMs - Date.now())));
  const back = story.mark;
  for (const { who } of broken) await rig.mend(who, how);
  const isByItself = how === 'crash' || rig.startsOthers;
  for (const it of broken) await untilBack(target, isByItself ? mark : back, it);
  return result(
    broken.map((it) => it.name).join(', '),
    first.time,
    story.after(mark),
    tpus,
    ofRecovery,
  );
}

interface Broken {
  readonly who: string;
  /** Name for messages: the worker and the numbers of its Cloud TPUs. */
  readonly name: string;
  readonly tpus: readonly number[];
  readonly time: number;
}

/**
 * Moments at which a double fault breaks its second worker. Each moment is a list of log messages:
 * it has come when the master has logged one of them. Injection i uses the moment with the index i
 * modulo 3, so successive injections use different moments.
 */
const moments = [['lost'], ['adopted', 'replaced'], ['resumed']] as const;

function at<T>(values: readonly T[], i: number): T {
  const value = values[i % values.length];
  assert(value !== undefined, 'one of nothing');
  return value;
}

async function breakOne({ rig, story }: Target, how: Break, who: string): Promise<Broken> {
  const tpus = tpusOf(rig, story, who);
  const time = await rig.breaks[how](who);
  return { who, name: `${who} (Cloud TPU ${tpus.join(' and ')})`, tpus, time };
}

/**
 * Returns a worker that has a Cloud TPU and is not in `without`. The choice depends on `i`, so that
 * the injections break different workers.
 */
async function pick(
  { rig, story }: Target,
  i: number,
  without: readonly string[],
): Promise<string> {
  const members = (await rig.victims()).filter(
    (it) => !without.includes(it) && tpusOf(rig, story, it).length > 0,
  );
  return at(members, i * 3);
}

/**
 * Returns the worker that a double fault breaks second. If the log says that a worker has adopted
 * the Cloud TPU of the first broken worker, this is the adopter. Otherwise it is any worker other
 * than `first`.
 */
async function pickSecond(target: Target, mark: number, first: string): Promise<string> {
  const { rig, story, i } = target;
  const adopted = story.after(mark).findLast(({ msg }) => msg === 'adopted');
  const host = /the worker of Cloud TPU (\d+)/.exec(adopted?.cause ?? '')?.[1];
  const line = host === undefined ? undefined : story.joined.get(Number(host));
  const adopter = line && rig.joiner(line);
  return adopter ?? (await pick(target, i, [first]));
}

function tpusOf(rig: Rig, story: Story, who: string): number[] {
  return [...story.joined].filter(([, line]) => rig.joiner(line) === who).map(([tpu]) => tpu);
}

function said(story: Story, mark: number, msg: string): boolean {
  return story.after(mark).some((it) => it.msg === msg);
}

function isLost({ msg, tpu }: Line, of: number): boolean {
  return (msg === 'lost' || msg === 'quarantined') && tpu === of;
}

/**
 * Waits until the broken worker, or a replacement of it, is back: until the master has logged that
 * this worker has joined with a Cloud TPU or as a spare. Returns at once if the run has ended.
 * Throws if the worker is not back within `returnMsLimit`.
 */
async function untilBack({ rig, story }: Target, mark: number, broken: Broken): Promise<void> {
  const { who, tpus } = broken;
  const isHis = (line: Line): boolean =>
    rig.startsOthers ? tpus.includes(line.tpu ?? -1) : rig.joiner(line) === who;
  const isBack = (line: Line): boolean =>
    line.msg === 'spare' || (line.msg === 'joined' && isHis(line));
  const isSo = (): boolean => story.exitCode !== undefined || story.after(mark).some(isBack);
  await story.until(`${who} to join again`, isSo, returnMsLimit);
}

function result(
  who: string,
  time: number,
  lines: readonly Line[],
  tpus: ReadonlySet<number>,
  ofRecovery = lines.length,
): Injection {
  const trouble = lines.findIndex(isTrouble);
  const last = lines.slice(0, ofRecovery).findLastIndex(isTrouble);
  const recovered = lines.findIndex(({ msg }, i) => msg === 'step' && i > last);
  const isOther = (it: Line): boolean =>
    isTrouble(it) && it.msg !== 'commits-found' && !tpus.has(it.tpu ?? -1);
  const again = lines.flatMap(({ msg, step }) => (msg === 'resumed' ? [step ?? -1] : []));
  const ranAgain = new Set(again.filter((step) => step >= 0)).size;
  return {
    who,
    wrong: lines.some(({ msg }) => msg === 'rolled-back') ? 'steps were lost' : undefined,
    // Docker reports the fault at `time`. The master may log the end of the process before that,
    // which makes the difference negative. It counts as 0 then.
    noticedMs: Math.max(0, (lines[trouble]?.time ?? 0) - time),
    recoveredMs: Math.max(0, (lines[recovered]?.time ?? 0) - time),
    isAdopted: lines.some(({ msg }) => msg === 'adopted'),
    ranAgain,
    others: lines.filter(isOther).map(({ msg, cause }) => `${msg}: ${cause}`),
  };
}
