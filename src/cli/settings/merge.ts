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

/** A checked value, and how messages name where it came from. */
export interface Given<K extends SettingKey = SettingKey> {
  readonly value: SettingValues[K];
  readonly origin: string;
}

/** Settings of all sources, merged and checked one by one. */
export class Settings {
  readonly mode: Mode;
  readonly #given: ReadonlyMap<SettingKey, Given>;

  constructor(mode: Mode, given: ReadonlyMap<SettingKey, Given>) {
    this.mode = mode;
    this.#given = given;
  }

  /** What somebody gave, in the order in which it was given. */
  get given(): ReadonlyMap<SettingKey, Given> {
    return this.#given;
  }

  /** The value that was given, or else the one that it has when nobody gives it. */
  get<K extends SettingKey>(key: K): SettingValues[K] | undefined {
    return this.ask(key)?.value ?? missingValue(key, this.mode);
  }

  /** The value with its origin; undefined when nobody gave it. */
  ask<K extends SettingKey>(key: K): Given<K> | undefined {
    return this.#given.get(key) as Given<K> | undefined;
  }

  /** How messages name where a value came from: `default` when nobody gave it. */
  origin(key: SettingKey): string {
    return this.#given.get(key)?.origin ?? 'default';
  }

  /** The same with another value of one setting, or with one more. */
  with<K extends SettingKey>(key: K, value: SettingValues[K], origin: string): Settings {
    return new Settings(this.mode, new Map([...this.#given, [key, { value, origin }]]));
  }
}

/**
 * Merges sources, of which a later one wins over those before it. Settings that say the same thing in
 * other words (`tpus` and `topology`, `steps` and `epochs`) win together: flags with `--topology`
 * replace the `tpus` of a file. Every value of every source is checked, also one that does not win.
 *
 * @throws PodError `bad-flag` for a wrong value, or for a setting that the mode does not take.
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

/** Settings that say the same as this one, itself included. */
function likes(key: SettingKey): readonly SettingKey[] {
  const { group } = schema[key];
  return group === 'own' ? [key] : settingKeys.filter((it) => schema[it].group === group);
}

function checkSource(mode: Mode, { values, kind }: Source): ReadonlyMap<SettingKey, Given> {
  const checked = new Map<SettingKey, Given>();
  for (const [key, raw] of values) {
    const value = checkValue(key, raw);
    // A switch that stands as it does by itself asks for nothing; parsers of flags set such ones.
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
