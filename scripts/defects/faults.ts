import type { Defect } from './defect.ts';

/**
 * Planted defects that break guarantees about fault plans: which faults a run injects, and how a
 * run with faults is judged.
 */
export const faultDefects: readonly Defect[] = [
  {
    name: 'plan: once',
    guarantee: 'A fault of a plan takes effect once in a run, also if its worker is replaced.',
    file: 'src/fault/injector.ts',
    from: '    this.#waiting = faults.filter(({ index }) => !ledger.has(index));',
    to: '    this.#waiting = [...faults];',
    test: 'test/fault/injector.test.ts',
    title: 'injects each fault once, though steps run again and workers are replaced',
  },
  {
    name: 'plan: hop',
    guarantee: 'A fault takes effect at exactly the hop that its position names.',
    file: 'src/fault/injector.ts',
    from: '  return point.bucket === bucket && point.hop === hop;',
    to: '  return point.bucket === bucket && hop >= 0;',
    test: 'test/fault/injector.test.ts',
    title: 'matches exactly the hop of a collective',
  },
  {
    name: 'verdict: weights',
    guarantee: 'A verdict compares the weights with those of the run without faults.',
    file: 'src/fault/verdict.ts',
    from: '  if (other !== undefined) {',
    to: '  if (other === null) {',
    test: 'test/fault/verdict.test.ts',
    title: 'finds other weights at the end',
  },
  {
    name: 'verdict: never reached',
    guarantee: 'A verdict says if a planned fault was never reached.',
    file: 'src/fault/verdict.ts',
    from: '    holds: missed.length === 0,',
    to: '    holds: true,',
    test: 'test/fault/verdict.test.ts',
    title: 'finds a fault that was never reached',
  },
  {
    name: 'plan: exit code',
    guarantee: 'The exit code of pod chaos run is 0 only if every expectation holds.',
    file: 'src/cli/chaos-run.ts',
    from: '  if (verdicts.some(({ holds }) => !holds)) process.exitCode = 1;',
    to: '',
    test: 'test/cli/chaos.test.ts',
    title: 'ends with 1 and names the expectation that does not hold',
  },
  {
    name: 'matcher: fault-free',
    guarantee: 'toMatchFaultFree compares the weights with those of the run without faults.',
    file: 'src/testing/matchers.ts',
    from: "    ...{ weights: 'bit-identical', samples: 'exactly-once', steps: 'committed-once' },",
    to: "    ...{ samples: 'exactly-once', steps: 'committed-once' },",
    test: 'test/testing/matchers.test.ts',
    title: 'passes only if each step has the weights and the loss of the run without faults',
  },
  {
    name: 'matcher: blame',
    guarantee: 'toBlame passes only for the Cloud TPU that the first report names.',
    file: 'src/testing/matchers.ts',
    from: '({ blamed }) => blamed === tpu)',
    to: '({ blamed }) => blamed !== undefined && tpu >= 0)',
    test: 'test/testing/matchers.test.ts',
    title: 'passes only for the Cloud TPU that the first report names',
  },
  {
    name: 'library: run without faults',
    guarantee: 'A run is compared with the run without faults that has the same settings.',
    file: 'src/cli/fault-free.ts',
    from: 'facts, keyOf(opened.identity)]',
    to: 'facts.steps, opened.identity.steps]',
    test: 'test/testing/pod.test.ts',
    title: 'is trained once for all plans whose runs have the same bits',
  },
];
