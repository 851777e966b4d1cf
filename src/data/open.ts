import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import type { DatasetPair } from './dataset.ts';
import { digits } from './digits.ts';
import { mnist } from './mnist.ts';

/** What `openDataset` takes, for help texts. */
export const datasetForms: readonly string[] = ['digits', 'digits:SIZE', 'mnist:DIR'];

/**
 * The dataset that a `--data` flag names. `digits` are drawn from `seed`; SIZE is how many make an
 * epoch of training.
 *
 * @throws PodError `bad-flag` for another form, `bad-data` for files that are not what they should be.
 */
export function openDataset(spec: string, seed: number): DatasetPair {
  const colon = spec.indexOf(':');
  const kind = colon < 0 ? spec : spec.slice(0, colon);
  const detail = colon < 0 ? undefined : spec.slice(colon + 1);
  if (kind === 'digits') {
    const train =
      detail === undefined
        ? digits(seed, { split: 'train' })
        : digits(seed, { split: 'train', size: sizeOf(spec, detail) });
    return { train, test: digits(seed, { split: 'test' }) };
  }
  if (kind === 'mnist' && detail !== undefined && detail !== '') return mnist(detail);
  throw unknown(spec);
}

function sizeOf(spec: string, detail: string): number {
  const size = Number(detail);
  if (!/^[1-9]\d*$/.test(detail) || size > 2 ** 32) throw unknown(spec);
  return size;
}

function unknown(spec: string): PodError {
  const forms = datasetForms.join(', ');
  return new PodError('bad-flag', `--data: expected one of ${forms}, found ${quote(spec)}`);
}
