import type { EventEmitter } from 'node:events';
import { type Command, Option } from 'commander';
import { PodError } from '../../numerics/error.ts';
import { flagOf, type Mode, missingText, type SettingKey, schema, settingKeys } from './schema.ts';

/** Adds a flag for each setting that a mode takes, and `--config`. */
export function addSettingFlags(
  command: Command,
  mode: Mode,
  origin: (key: SettingKey) => string = flagOf,
): Command {
  for (const key of settingKeys) {
    if (schema[key].places[mode] !== true) continue;
    const option = new Option(schema[key].flag, helpOf(key, mode));
    // A flag that switches something off would have its opposite as a default.
    if (option.negate) option.default(undefined);
    command.addOption(option);
    refuseSecond(command, option, origin(key));
  }
  if (mode === 'devices') return command;
  const config = new Option('--config <file>', 'settings from a YAML file; flags win over it');
  command.addOption(config);
  refuseSecond(command, config, '--config');
  return command;
}

/**
 * Refuses flags that are given twice, of all that a command has: neither of two values is what the
 * user meant for certain. Settings refuse it by themselves.
 */
export function refuseRepeats(command: Command): Command {
  for (const option of command.options) refuseSecond(command, option, option.long ?? option.flags);
  return command;
}

function refuseSecond(command: Command, option: Option, origin: string): void {
  // Commander's types leave out that a command is an emitter. This listener comes before the one that
  // takes the value, so that the first value has no source yet.
  (command as unknown as EventEmitter).prependListener(`option:${option.name()}`, () => {
    if (command.getOptionValueSource(option.attributeName()) !== 'cli') return;
    throw new PodError('bad-flag', `${origin}: given twice; leave one out`);
  });
}

function helpOf(key: SettingKey, mode: Mode): string {
  const missing = missingText(key, mode);
  return missing === '' ? schema[key].help : `${schema[key].help} (default ${missing})`;
}
