import type { Defect } from './defect.ts';

const lanes = 'test/fabric/waits.test.ts';
const causes = 'test/experiment/link-causes.test.ts';
const metrics = 'test/cluster/master/metrics.test.ts';

/**
 * Planted defects that break guarantees about waits: how long a Cloud TPU waits for frames on its
 * links, and which Cloud TPU is named as the cause.
 */
export const waitDefects: readonly Defect[] = [
  {
    name: 'waits: begin of a wait',
    guarantee: 'A wait for a frame begins with the first try that finds no frame.',
    file: 'src/fabric/lane.ts',
    from: 'if (this.#awaited === undefined) this.#waits.begin(',
    to: 'this.#waits.begin(',
    test: lanes,
    title: 'a wait lasts from the first try',
  },
  {
    name: 'waits: end of a wait',
    guarantee: 'A wait for a frame ends when the frame arrives, not when the lane can send it on.',
    file: 'src/fabric/lane.ts',
    from: `    if (this.#awaited !== undefined) this.#endWait();
    if (!this.#isClear(0) || !this.#isClear(1)) return false;
`,
    to: `    if (!this.#isClear(0) || !this.#isClear(1)) return false;
    if (this.#awaited !== undefined) this.#endWait();
`,
    test: lanes,
    title: 'a wait lasts from the first try',
  },
  {
    name: 'waits: paused worker',
    guarantee: 'The time for which a worker is paused is no wait of that worker.',
    file: 'src/fabric/collectives.ts',
    from: 'Math.min(this.#now() - this.#lastMs[0]!, idleMsMax)',
    to: 'this.#now() - this.#lastMs[0]!',
    test: lanes,
    title: 'a pause of the thread counts only up to',
  },
  {
    name: 'waits: computing worker',
    guarantee: 'The time for which a worker computes is no wait.',
    file: 'src/fabric/collectives.ts',
    from: 'if (this.#idleMsMax !== undefined) this.#countIdle(this.#idleMsMax);',
    to: 'this.#countIdle(this.#idleMsMax ?? 1e9);',
    test: lanes,
    title: 'only the time asleep counts',
  },
  {
    name: 'waits: waits of the step before',
    guarantee: 'A step reports its own waits only.',
    file: 'src/fabric/waits.ts',
    from: '    this.#sumsMs.fill(0);\n',
    to: '',
    test: lanes,
    title: 'a wait lasts from the first try',
  },
  {
    name: 'waits: order of links',
    guarantee: 'Each reported wait belongs to the link with its index.',
    file: 'src/fabric/torus.ts',
    from: 'if (placement(torus, from).worker !== worker) links.push(',
    to: 'if (placement(torus, from).worker !== worker) links.unshift(',
    test: lanes,
    title: 'the links that enter a worker',
  },
  {
    name: 'waits: own waits',
    guarantee: 'A Cloud TPU that waits itself is not charged with the wait that it passes on.',
    file: 'src/experiment/link-causes.ts',
    from: '    caused[to]! -= waitMs;\n',
    to: '',
    test: causes,
    title: 'is left for the one with which the wait began',
  },
  {
    name: 'waits: late start',
    guarantee: 'A Cloud TPU that computes longer is not charged with the all-reduce.',
    file: 'src/experiment/link-causes.ts',
    from: 'at(caused, i) - (at(otherMs, i) - shortestMs)',
    to: 'at(caused, i)',
    test: causes,
    title: 'is the one that computes longer',
  },
  {
    name: 'waits: slow in the all-reduce',
    guarantee: 'A Cloud TPU that is slow only in the all-reduce is named.',
    file: 'src/experiment/straggler.ts',
    from: '(heldUpMs[tpu] ?? 0)',
    to: '0',
    test: causes,
    title: 'is the one that stands still in the all-reduce',
  },
  {
    name: 'waits: engine of a process',
    guarantee: 'Workers in processes report the waits of their links.',
    file: 'cluster/process/node.ts',
    from: 'linkWaitMs: this.#carrier.takeWaits()',
    to: 'linkWaitMs: message.linkWaitMs',
    test: 'test/cluster/process/waits.test.ts',
    title: 'stands still inside the all-reduce is named',
  },
  {
    name: 'waits: poll of a process',
    guarantee: 'A process measures waits that are longer than the time between two calls.',
    file: 'cluster/process/ici.ts',
    from: 'if (this.#poll === undefined && this.#allReduce.isBusy) this.#pollLater();',
    to: '',
    test: 'test/cluster/process/waits.test.ts',
    title: 'stands still inside the all-reduce is named',
  },
  {
    name: 'waits: numbers that are no times',
    guarantee: 'A wait that is no number makes no sum wrong.',
    file: 'src/experiment/link-causes.ts',
    from: 'return ms !== undefined && ms > 0 && Number.isFinite(ms) ? ms : 0;',
    to: 'return ms ?? 0;',
    test: causes,
    title: 'reads what is no time as 0',
  },
  {
    name: 'metrics: who is waited for',
    guarantee: 'The wait on a link is counted for the Cloud TPU from which the link leaves.',
    file: 'cluster/master/job-metrics.ts',
    from: '({ from, direction }, waitMs) =>\n      this.#metrics.linkWait.inc({ job, tpu: from, direction }',
    to: '({ direction }, waitMs, to) =>\n      this.#metrics.linkWait.inc({ job, tpu: to, direction }',
    test: metrics,
    title: 'count steps, phases of each Cloud TPU',
  },
];
