import { PodError } from '../../numerics/error.ts';
import { oneLine, quote } from '../../numerics/quote.ts';
import { flagOf, isSettingKey, type SettingKey, settingKeys } from './schema.ts';

/** Settings from one source: flags, a file, the environment or a job. */
export interface Source {
  /** One entry for each setting that the user gave, in the order in which the user gave them. */
  readonly values: ReadonlyMap<SettingKey, RawValue>;
  readonly kind: 'words' | 'file';
}

/** Value of a setting as a source gives it, before any check. */
export interface RawValue {
  readonly value: unknown;
  /** The value as the user wrote it, for messages. */
  readonly written: string;
  /**
   * Name of the setting in messages. The name also says where the user gave the value: `--steps`,
   * `steps in run.yaml`, `TPUS`, `steps of the job`.
   */
  readonly origin: string;
}

/** Flags of a command as Commander parses them. A key is the name of a flag in camelCase. */
export type RawOptions = Readonly<Record<string, unknown>>;

/**
 * Converts parsed flags to a source of settings. `origin` returns the name of a setting for
 * messages. If `origin` is omitted, this name is the setting's flag.
 *
 * @throws PodError `bad-config` for a key that is not a setting.
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

/**
 * Returns the error for a key that is no setting. The message lists the settings, without those in
 * `refused`. `what` names the key and where it was given.
 */
export function unknownSetting(what: string, refused: readonly string[] = []): PodError {
  const known = settingKeys.filter((key) => !refused.includes(key)).join(', ');
  return new PodError('bad-config', `${what}: there is no such setting; expected one of ${known}`);
}

/**
 * Returns the text on one line of at most `lengthMax` characters, without characters that control a
 * terminal.
 */
export function shortened(text: string, lengthMax = 60): string {
  return oneLine(text.replace(/\s*\n\s*/g, ' '), lengthMax, 'start');
}
