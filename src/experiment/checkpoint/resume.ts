import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { type ArrayShape, sameShape, shapeText } from '../../numerics/shape.ts';
import { differenceBetween, type RunIdentity, short, shortest } from '../same-run.ts';
import type { Checkpoint } from './checkpoint.ts';
import { readSavedRun, type SavedRun, trainDigestOf } from './saved-run.ts';

/**
 * Identity and parameters of a run. A checkpoint must fit both before the run can resume from it.
 */
export interface Resumable {
  readonly identity: RunIdentity;
  /** Parameters of the training program, in order. */
  readonly parameters: readonly NamedShape[];
}

/** A parameter of the training program. */
export interface NamedShape {
  readonly name: string;
  readonly shape: ArrayShape;
}

/**
 * Returns the values of the run's parameters from a checkpoint, in the order of the parameters. The
 * resumed run ends with the bits of an uninterrupted run.
 *
 * The run may have another length or another schedule than the run that saved the checkpoint. But
 * both runs must have the same learning rates, to the bit, in the steps that are done.
 *
 * @throws PodError `bad-config` if the two runs differ in anything else. The result would then have
 *   the bits of neither run. The error names the first difference.
 */
export function resumedValues(
  checkpoint: Checkpoint,
  { identity, parameters }: Resumable,
): readonly Uint8Array[] {
  checkSameRun(checkpoint, identity);
  const { name, tensors } = checkpoint;
  if (tensors.length !== parameters.length) {
    throw unlike(name, `${tensors.length} parameters`, `${parameters.length}`, thenOrElsewhere);
  }
  return parameters.map((parameter, i) => {
    const tensor = at(tensors, i);
    if (tensor.name === parameter.name && sameShape(tensor.shape, parameter.shape)) {
      return tensor.bytes;
    }
    const was = `parameter ${described(tensor)}`;
    throw unlike(name, was, described(parameter), thenOrElsewhere);
  });
}

/**
 * Throws `bad-config` if the checkpoint is of another run. Does not compare the parameters, so no
 * compiled program is needed.
 */
export function checkSameRun({ name, manifest }: Checkpoint, identity: RunIdentity): void {
  const saved = readSavedRun(name, manifest);
  checkSettings(name, saved, identity);
  checkData(name, saved, identity);
  checkSteps(name, saved, identity, manifest.step);
}

function checkSettings(name: string, { fixed }: SavedRun, identity: RunIdentity): void {
  const difference = differenceBetween<keyof typeof fixed>(fixed, identity.fixed);
  if (difference === undefined) return;
  const { was, is, flag } = difference;
  const advice = flag === undefined ? thenOrElsewhere : `resume with ${flag}, or ${elsewhere}`;
  throw unlike(name, was, is, advice);
}

function checkData(name: string, saved: SavedRun, identity: RunIdentity): void {
  const { trainDigest } = identity.fixed;
  const found = trainDigestOf(saved, identity);
  if (found === trainDigest) return;
  const contents = found === undefined ? 'not recorded by the version that saved it' : short(found);
  const was = `training set ${saved.data} (contents ${contents})`;
  const is = `${identity.data} (contents ${short(trainDigest)})`;
  throw unlike(name, was, is, `resume with the data set of the run that saved it, or ${elsewhere}`);
}

/**
 * Throws `bad-config` if this run has fewer than `step` steps, the number of steps of the
 * checkpoint. Also throws `bad-config` if this run and the run that saved the checkpoint have
 * different learning rates in these steps.
 */
function checkSteps(name: string, saved: SavedRun, identity: RunIdentity, step: number): void {
  if (step > identity.steps) {
    const is = `only ${identity.steps}`;
    throw unlike(name, `${step} steps done`, is, `resume with ${step} steps or more`);
  }
  const done = saved.mark?.ratesDigest ?? saved.rates.digest(step);
  if (done === identity.rates.digest(step)) return;
  const anew = '--start-from begins a new run with its weights';
  throw new PodError(
    'bad-config',
    `checkpoint ${name}: ${otherRate(saved, identity, step)}: resume with the schedule of the run that saved it; ${anew}`,
  );
}

function otherRate(saved: SavedRun, identity: RunIdentity, steps: number): string {
  for (let step = 0; step < steps; step++) {
    const [was, is] = [saved.rates.at(step), identity.rates.at(step)];
    if (Object.is(was, is)) continue;
    const found = `this run has ${shortest(is)}`;
    return `the learning rate of step ${step + 1} was ${shortest(was)}, ${found}`;
  }
  return `its ${steps} steps had learning rates that this version of pod does not reproduce`;
}

const elsewhere = 'use another directory';
const thenOrElsewhere = `resume with the settings of the run that saved it, or ${elsewhere}`;

function described({ name, shape }: NamedShape): string {
  return `${name} ${shapeText(shape)}`;
}

function unlike(name: string, was: string, is: string, advice: string): PodError {
  return new PodError('bad-config', `checkpoint ${name} has ${was}, this run has ${is}: ${advice}`);
}
