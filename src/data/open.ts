import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import type { DatasetPair } from './dataset.ts';
import { digits } from './digits.ts';
import { mnist } from './mnist.ts';

/** What `openDataset` takes, for help texts. */
export const datasetForms: readonly string[] = ['digits', 'digits:SIZE', 'mnist:DIR'];

/** A data set as a `--data` flag names it, taken apart. */
export type DatasetForm =
  /** Drawn digits; `size` is how many make an epoch of training. */
  | { readonly kind: 'digits'; readonly size?: number }
  /** The MNIST files in a folder. */
  | { readonly kind: 'mnist'; readonly folder: string };

/** Takes the name of a data set apart; undefined when it is none. Reads no file. */
export function parseDataset(spec: string): DatasetForm | undefined {
  const colon = spec.indexOf(':');
  const kind = colon < 0 ? spec : spec.slice(0, colon);
  const detail = colon < 0 ? undefined : spec.slice(colon + 1);
  if (kind === 'mnist') return detail ? { kind, folder: detail } : undefined;
  if (kind !== 'digits') return undefined;
  if (detail === undefined) return { kind };
  const size = Number(detail);
  return /^[1-9]\d*$/.test(detail) && size <= 2 ** 32 ? { kind, size } : undefined;
}

/**
 * The dataset that a `--data` flag names. `digits` are drawn from `seed`; SIZE is how many make an
 * epoch of training.
 *
 * @throws PodError `bad-flag` for another form, `bad-data` for files that are not what they should be.
 */
export function openDataset(spec: string, seed: number): DatasetPair {
  const form = parseDataset(spec);
  if (form === undefined) throw unknown(spec);
  if (form.kind === 'mnist') return mnist(form.folder);
  const { size } = form;
  return {
    train: digits(seed, { split: 'train', ...(size !== undefined && { size }) }),
    test: digits(seed, { split: 'test' }),
    notes: [],
  };
}

function unknown(spec: string): PodError {
  const forms = datasetForms.join(', ');
  return new PodError('bad-flag', `--data: expected one of ${forms}, found ${quote(spec)}`);
}
