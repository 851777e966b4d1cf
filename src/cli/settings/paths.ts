import { resolve } from 'node:path';
import { parseDataset } from '../../data/open.ts';
import type { Settings } from './merge.ts';
import { type SettingKey, schema, settingKeys } from './schema.ts';

/**
 * Returns the settings with every path made absolute. A relative path is resolved against `folder`.
 */
export function withAbsolutePaths(settings: Settings, folder: string): Settings {
  let resolved = settings;
  for (const { key, path, origin, rename } of pathsOf(settings)) {
    resolved = resolved.with(key, rename(resolve(folder, path)), origin);
  }
  return resolved;
}

/** A path that is the value of a setting or part of it. */
export interface GivenPath {
  readonly key: SettingKey;
  readonly path: string;
  readonly origin: string;
  /**
   * Returns the value of the setting with a new path in it. If the value is `mnist:OLD`,
   * `rename('NEW')` returns `mnist:NEW`.
   */
  readonly rename: (path: string) => string;
}

/** Returns all paths in values that a source gives. */
export function pathsOf(settings: Settings): GivenPath[] {
  return settingKeys.flatMap((key): GivenPath[] => {
    const given = settings.ask(key);
    if (given === undefined || schema[key].path === 'none') return [];
    const { origin } = given;
    const value = String(given.value);
    if (schema[key].path === 'whole') return [{ key, path: value, origin, rename: (it) => it }];
    const form = parseDataset(value);
    if (form?.kind !== 'mnist') return [];
    return [{ key, path: form.folder, origin, rename: (it) => `mnist:${it}` }];
  });
}
