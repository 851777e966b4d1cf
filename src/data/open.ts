import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import type { DatasetPair } from './dataset.ts';
import { digits } from './digits.ts';
import { mnist } from './mnist.ts';

/** Forms of the name of a data set, for help texts and messages. */
export const datasetForms: readonly string[] = ['digits', 'digits:SIZE', 'mnist:DIR'];

/** Parsed name of a data set, as the flag `--data` gives it. */
export type DatasetForm =
  /** Drawn digits; `size` is the number of images in a training epoch. */
  | { readonly kind: 'digits'; readonly size?: number }
  /** The MNIST files in a folder. */
  | { readonly kind: 'mnist'; readonly folder: string };

/**
 * Parses the name of a data set. Returns undefined if the name has none of the known forms. Reads
 * no file.
 */
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
 * Opens the data set that the flag `--data` names. For `digits` and `digits:SIZE`, the images are
 * drawn from `seed`, and SIZE is the number of images in a training epoch.
 *
 * @throws PodError `bad-flag` if the name has none of the known forms, `bad-data` if a file of the
 * data set is missing or malformed.
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
