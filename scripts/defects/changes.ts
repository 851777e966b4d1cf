import type { Change } from './defect.ts';

/** A change that stands in several lists of defects, in each of them under another name. */
type SharedChange = Omit<Change, 'name'>;

/** A step is committed without a comparison of the weights. */
export const commitWithoutAgreement: SharedChange = {
  guarantee: 'A step is committed only if all Cloud TPUs have the same weights.',
  file: 'src/pod/master/stepping.ts',
  from: '  if (reports.some((other) => other.digest !== digest)) {',
  to: '  if (reports.length === 0) {',
};

/** After a rollback, steps are counted as if nothing had been lost. */
export const rollbackThatKeepsCount: SharedChange = {
  guarantee: 'After a rollback the steps since the checkpoint run again.',
  file: 'cluster/driver.ts',
  from: '    const steps = saved.map((it, program) => it?.steps ?? at(before, program));',
  to: '    const steps = saved.map((_, program) => at(before, program));',
};

/** A batch of the evaluation that runs again keeps the weights that a Cloud TPU happens to have. */
export const oldWeightsInEvaluation: SharedChange = {
  guarantee: 'A batch of the evaluation that runs again takes the weights again.',
  file: 'src/pod/master/stepping.ts',
  from: '  const takeParameters = at(options.copiesParameters, pending.program);',
  to: '  const takeParameters = pending.takeParameters && at(options.copiesParameters, pending.program);',
};

/** The checksum of a payload is not checked. */
export const corruptPayload: SharedChange = {
  guarantee: 'A frame whose payload was changed on its way is refused.',
  file: 'cluster/net/frame.ts',
  from: '    if (crc !== this.#payloadCrc) {',
  to: '    if (crc !== this.#payloadCrc && crc < 0) {',
};

/** The event of a step is told before the commit log has the step. */
export const toldBeforeCommit: SharedChange = {
  guarantee: 'The event of a step is told after the commit log has the step.',
  file: 'src/experiment/train.ts',
  from: '    world.commit?.(event);\n    tell(stepTold(event, commit.reports));\n',
  to: '    tell(stepTold(event, commit.reports));\n    world.commit?.(event);\n',
};
