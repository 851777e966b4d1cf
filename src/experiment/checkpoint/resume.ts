import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { type ArrayShape, sameShape, shapeText } from '../../numerics/shape.ts';
import type { TrainConfig } from '../config.ts';
import type { Checkpoint } from './checkpoint.ts';

/** What a run is, as far as a checkpoint must fit it. */
export interface Resumable {
  readonly config: TrainConfig;
  readonly trainSamples: number;
  /** Of the training program. */
  readonly parameters: readonly NamedShape[];
}

/** A parameter of the training program. */
export interface NamedShape {
  readonly name: string;
  readonly shape: ArrayShape;
}

/**
 * The values that a run goes on with from a checkpoint: those of its parameters, in their order.
 *
 * @throws PodError `bad-config` naming the first setting, or parameter, in which this run differs
 *   from that of the checkpoint: its bits would be those of neither.
 */
export function resumedValues(
  { name, manifest, tensors }: Checkpoint,
  { config, trainSamples, parameters }: Resumable,
): readonly Uint8Array[] {
  const difference = differentSetting(manifest.config, config);
  if (difference !== undefined) {
    const { setting, saved, now } = difference;
    throw unlike(name, `${setting} ${saved}, this run has ${now}`);
  }
  if (manifest.trainSamples !== trainSamples) {
    throw unlike(name, `${manifest.trainSamples} training samples, this run has ${trainSamples}`);
  }
  if (tensors.length !== parameters.length) {
    throw unlike(name, `${tensors.length} parameters, this run has ${parameters.length}`);
  }
  return parameters.map((parameter, i) => {
    const tensor = at(tensors, i);
    if (tensor.name === parameter.name && sameShape(tensor.shape, parameter.shape)) {
      return tensor.bytes;
    }
    throw unlike(name, `parameter ${described(tensor)}, this run has ${described(parameter)}`);
  });
}

/** Settings that do not change a bit of the weights. */
const indifferent: readonly string[] = ['mxu', 'evaluate', 'recovery'];

interface Difference {
  readonly setting: string;
  readonly saved: string;
  readonly now: string;
}

function differentSetting(saved: unknown, now: unknown): Difference | undefined {
  const [before, after] = [leavesOf(saved), leavesOf(now)];
  for (const setting of new Set([...after.keys(), ...before.keys()])) {
    if (indifferent.includes(setting)) continue;
    const [was, is] = [before.get(setting) ?? 'none', after.get(setting) ?? 'none'];
    if (was !== is) return { setting, saved: was, now: is };
  }
  return undefined;
}

/** Each value inside, as JSON, by its path, such as `topology.columns`. */
function leavesOf(value: unknown, path: readonly string[] = []): Map<string, string> {
  if (typeof value !== 'object' || value === null) {
    return new Map([[path.join('.'), JSON.stringify(value) ?? 'none']]);
  }
  return new Map(Object.entries(value).flatMap(([key, it]) => [...leavesOf(it, [...path, key])]));
}

function described({ name, shape }: NamedShape): string {
  return `${name} ${shapeText(shape)}`;
}

function unlike(name: string, what: string): PodError {
  const advice = 'resume with the settings of then, or use another directory';
  return new PodError('bad-config', `checkpoint ${name} has ${what}: ${advice}`);
}
