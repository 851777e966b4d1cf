import type { Defect } from './defect.ts';

const random = {
  test: 'test/cluster/simulated/plans.test.ts',
  title: 'a run with any of these plans ends with the weights of the undisturbed run',
} as const;

const links = {
  test: 'test/cluster/simulated/links.test.ts',
  title: 'from any faults of links that end, with the same weights',
} as const;

/**
 * Planted defects of two kinds. A defect of the first kind is in the simulation of a pod. A defect
 * of the second kind is in code that all kinds of pods share; the tests that simulate runs with
 * random fault plans must find it.
 */
export const simulationDefects: readonly Defect[] = [
  {
    name: 'simulation: repeatable',
    guarantee: 'A simulated run depends on its seed only, and its log is the same byte for byte.',
    file: 'cluster/simulated/pod.ts',
    from: '    this.#random = mulberry32(seed);',
    to: '    this.#random = seed < 0 ? mulberry32(seed) : Math.random;',
    test: 'test/cluster/simulated/run.test.ts',
    title: 'has the same events, byte for byte, when it is repeated',
  },
  {
    name: 'simulation: corrupt frames',
    guarantee: 'A frame whose payload was changed on its way is refused.',
    file: 'cluster/net/frame.ts',
    from: '    if (crc !== this.#payloadCrc) {',
    to: '    if (crc !== this.#payloadCrc && crc < 0) {',
    ...links,
  },
  {
    name: 'random plans: agreement',
    guarantee: 'A step is committed only if all Cloud TPUs have the same weights.',
    file: 'src/pod/master/stepping.ts',
    from: '  if (reports.some((other) => other.digest !== digest)) {',
    to: '  if (reports.length === 0) {',
    ...random,
  },
  {
    name: 'random plans: evaluation',
    guarantee: 'A batch of the evaluation that runs again takes the weights again.',
    file: 'src/pod/master/stepping.ts',
    from: '  const takeParameters = at(options.copiesParameters, pending.program);',
    to: '  const takeParameters = pending.takeParameters && at(options.copiesParameters, pending.program);',
    ...random,
  },
  {
    name: 'random plans: rollback',
    guarantee: 'After a rollback the steps since the checkpoint run again.',
    file: 'cluster/driver.ts',
    from: '    const steps = saved.map((it, program) => it?.steps ?? at(before, program));',
    to: '    const steps = saved.map((_, program) => at(before, program));',
    ...random,
  },
];
