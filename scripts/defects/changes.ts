import type { Change } from './defect.ts';

/**
 * A change of the source that several lists of defects contain. It has no name here, because each
 * list gives it a name of its own.
 */
type SharedChange = Omit<Change, 'name'>;

/** A step is committed without a comparison of the weights. */
export const commitWithoutAgreement: SharedChange = {
  guarantee: 'A step is committed only if all Cloud TPUs have the same weights.',
  file: 'src/pod/master/stepping.ts',
  from: '  if (reports.some((other) => other.digest !== digest)) {',
  to: '  if (reports.length === 0) {',
};

/**
 * After a rollback to a checkpoint, the driver goes on counting from the last step before the
 * rollback instead of the step of the checkpoint.
 */
export const rollbackThatKeepsCount: SharedChange = {
  guarantee: 'After a rollback the steps since the checkpoint run again.',
  file: 'cluster/driver.ts',
  from: '    const steps = saved.map((it, program) => it?.steps ?? at(before, program));',
  to: '    const steps = saved.map((_, program) => at(before, program));',
};

/**
 * A Cloud TPU runs a batch of the evaluation again with whatever weights it has. It does not copy
 * the trained weights first.
 */
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

/** A commit is not synced to the disk. */
export const unsyncedLog: SharedChange = {
  guarantee: 'A commit survives a loss of power.',
  file: 'cluster/master/commit-log.ts',
  from: '    this.#file.sync();\n    if (written',
  to: '    if (written',
};

/** A master goes on although a newer master leads the run. */
export const secondMasterUnnoticed: SharedChange = {
  guarantee: 'A master commits nothing once a newer master leads the run.',
  file: 'cluster/master/commit-log.ts',
  from: '    if (leader.name === this.#name) return;',
  to: "    if (leader.name !== '') return;",
};

/** One checkpoint less is kept than was asked for. */
export const olderCheckpointDeleted: SharedChange = {
  guarantee: 'A run keeps an older checkpoint for the case that the newest is damaged.',
  file: 'src/experiment/checkpoint/checkpoints.ts',
  from: '      if (whole > this.#keep && (await this.#isOurs(name))) old.push(name);',
  to: '      if (whole >= this.#keep && (await this.#isOurs(name))) old.push(name);',
};

/** A checkpoint gets its name before the bytes of its files are on the disk. */
export const unsyncedCheckpointFile: SharedChange = {
  guarantee: 'A checkpoint has its name only once its bytes outlast a loss of power.',
  file: 'src/experiment/checkpoint/checkpoint.ts',
  from: '    await file.sync();\n',
  to: '',
};

/** A checkpoint gets its name before the names of its files are on the disk. */
export const unsyncedCheckpointNames: SharedChange = {
  guarantee: 'A checkpoint has its name only once the names of its files outlast a loss of power.',
  file: 'src/experiment/checkpoint/checkpoint.ts',
  from: '  await files.syncDirectory(path);\n',
  to: '',
};

/** The name of a new checkpoint is not synced to the disk. */
export const unsyncedRename: SharedChange = {
  guarantee: 'A checkpoint that is told as saved survives a loss of power.',
  file: 'src/experiment/checkpoint/checkpoints.ts',
  from: '      await this.#files.syncDirectory(this.#directory);\n      return bytes;',
  to: '      return bytes;',
};

/** A torn record of the commit log counts as a commit. */
export const tornCommit: SharedChange = {
  guarantee: 'A record that is torn is no commit.',
  file: 'cluster/master/commit-log.ts',
  from: '      else this.#unreadable.push(this.#lines);',
  to: '      else this.#contents.steps++;',
};
