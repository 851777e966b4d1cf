import { PodError } from '../../numerics/error.ts';
import { oneLine, quote } from '../../numerics/quote.ts';
import { flagOf, isSettingKey, type SettingKey, settingKeys } from './schema.ts';

/** One place that settings come from: flags, a file, the environment, a job. */
export interface Source {
  /** In the order in which they were given. */
  readonly values: ReadonlyMap<SettingKey, RawValue>;
  readonly kind: 'words' | 'file';
}

/** A value as it was given, unchecked. */
export interface RawValue {
  readonly value: unknown;
  /** As the user wrote it, for messages. */
  readonly written: string;
  /** How messages name the setting: `--steps`, `steps in run.yaml`, `TPUS`, `steps of the job`. */
  readonly origin: string;
}

/** Values by key, as a parser of flags gives them. */
export type RawOptions = Readonly<Record<string, unknown>>;

/**
 * Settings that were given as flags. `origin` says how messages name one; by its flag unless given.
 *
 * @throws PodError `bad-config` for a key that is no setting.
 */
export function sourceOfFlags(
  flags: RawOptions,
  origin: (key: SettingKey) => string = flagOf,
): Source {
  const values = new Map<SettingKey, RawValue>();
  for (const [key, value] of Object.entries(flags)) {
    if (value === undefined) continue;
    if (!isSettingKey(key)) throw unknownSetting(key);
    values.set(key, { value, written: quote(value), origin: origin(key) });
  }
  return { values, kind: 'words' };
}

export function unknownSetting(what: string): PodError {
  const known = settingKeys.join(', ');
  return new PodError('bad-config', `${what}: there is no such setting; expected one of ${known}`);
}

/** Text on one line of at most so many characters, without what a terminal obeys. */
export function shortened(text: string, lengthMax = 60): string {
  return oneLine(text.replace(/\s*\n\s*/g, ' '), lengthMax, 'start');
}
