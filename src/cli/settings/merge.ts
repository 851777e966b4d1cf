import { PodError } from '../../numerics/error.ts';
import {
  type Mode,
  missingValue,
  type SettingKey,
  type SettingValues,
  schema,
  settingKeys,
} from './schema.ts';
import type { RawValue, Source } from './source.ts';

/**
 * A checked value of a setting. `origin` names, in messages, the setting and where it was given,
 * such as `--steps` or `steps in run.yaml`.
 */
export interface Given<K extends SettingKey = SettingKey> {
  readonly value: SettingValues[K];
  readonly origin: string;
}

/** Settings merged from all sources. Each value has passed the check of its setting. */
export class Settings {
  readonly mode: Mode;
  readonly #given: ReadonlyMap<SettingKey, Given>;

  constructor(mode: Mode, given: ReadonlyMap<SettingKey, Given>) {
    this.mode = mode;
    this.#given = given;
  }

  /**
   * One entry for each setting that a source gives, in the order in which the sources give them.
   */
  get given(): ReadonlyMap<SettingKey, Given> {
    return this.#given;
  }

  /** Returns the value that a source gives, otherwise the default; undefined without a default. */
  get<K extends SettingKey>(key: K): SettingValues[K] | undefined {
    return this.ask(key)?.value ?? missingValue(key, this.mode);
  }

  /**
   * Returns the value that a source gives, with its origin; undefined if no source gives a value.
   */
  ask<K extends SettingKey>(key: K): Given<K> | undefined {
    return this.#given.get(key) as Given<K> | undefined;
  }

  /**
   * Returns where the value of a setting was given, in words for messages: `default` if no source
   * gives a value.
   */
  origin(key: SettingKey): string {
    return this.#given.get(key)?.origin ?? 'default';
  }

  /** Returns a copy of the settings in which the setting `key` has the given value. */
  with<K extends SettingKey>(key: K, value: SettingValues[K], origin: string): Settings {
    return new Settings(this.mode, new Map([...this.#given, [key, { value, origin }]]));
  }
}

/**
 * Merges the settings of several sources, such as a file and flags. A setting in a later source
 * replaces the same setting of earlier sources. It also removes the settings of earlier sources
 * that express the same quantity. For example, the flag `--topology` removes the setting `tpus` of
 * a file. Every value is checked, even one that a later source replaces.
 *
 * @throws PodError `bad-flag` for a wrong value, or for a setting that the mode or a file does not
 * take.
 */
export function mergeSettings(mode: Mode, sources: readonly Source[]): Settings {
  const given = new Map<SettingKey, Given>();
  for (const source of sources) {
    const checked = checkSource(mode, source);
    for (const key of checked.keys()) for (const other of likes(key)) given.delete(other);
    for (const [key, value] of checked) given.set(key, value);
  }
  return new Settings(mode, given);
}

/** Returns the keys of all settings that express the same quantity as `key`, including `key`. */
function likes(key: SettingKey): readonly SettingKey[] {
  const { group } = schema[key];
  return group === 'own' ? [key] : settingKeys.filter((it) => schema[it].group === group);
}

function checkSource(mode: Mode, { values, kind }: Source): ReadonlyMap<SettingKey, Given> {
  const checked = new Map<SettingKey, Given>();
  for (const [key, raw] of values) {
    const value = checkValue(key, raw);
    // If the user does not give the flag `--no-relaxed-simd`, Commander gives it the value true. So
    // a boolean that equals its default counts as not given.
    if (typeof value === 'boolean' && value === missingValue(key, mode)) continue;
    const { places, inFile } = schema[key];
    if (kind === 'file' && inFile !== true) throw refused(raw, inFile);
    const place = places[mode];
    if (place !== true) throw refused(raw, place);
    checked.set(key, { value, origin: raw.origin });
  }
  return checked;
}

function checkValue<K extends SettingKey>(key: K, raw: RawValue): SettingValues[K] {
  const result = schema[key].check.safeParse(raw.value);
  if (result.success) return result.data as SettingValues[K];
  const expected = result.error.issues[0]?.message;
  throw new PodError('bad-flag', `${raw.origin}: ${expected}, found ${raw.written}`);
}

function refused({ origin }: RawValue, reason: string): PodError {
  return new PodError('bad-flag', `${origin}: ${reason}`);
}
