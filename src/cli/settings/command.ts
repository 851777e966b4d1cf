import type { EventEmitter } from 'node:events';
import { type Command, Option } from 'commander';
import { PodError } from '../../numerics/error.ts';
import { flagOf, type Mode, missingText, type SettingKey, schema, settingKeys } from './schema.ts';

/**
 * Adds to a command a flag for each setting that the mode takes. Also adds `--config`, except in
 * the mode `devices`. `origin` returns the name of a setting for messages.
 */
export function addSettingFlags(
  command: Command,
  mode: Mode,
  origin: (key: SettingKey) => string = flagOf,
): Command {
  for (const key of settingKeys) {
    if (schema[key].places[mode] !== true) continue;
    const option = new Option(schema[key].flag, helpOf(key, mode));
    // Commander gives a `--no-…` flag the value true if the user does not give the flag. For this
    // reason, `mergeSettings` ignores a boolean that equals its default.
    command.addOption(option);
    refuseSecond(command, option, origin(key));
  }
  if (mode === 'devices') return command;
  const config = new Option(
    '--config <file>',
    'read settings from a YAML file; flags override the file',
  );
  command.addOption(config);
  refuseSecond(command, config, '--config');
  return command;
}

/**
 * Makes a command refuse (`bad-flag`) a flag that is given twice, because the program cannot know
 * which of the two values the user meant. Flags that {@link addSettingFlags} adds refuse this
 * already.
 */
export function refuseRepeats(command: Command): Command {
  for (const option of command.options) refuseSecond(command, option, option.long ?? option.flags);
  return command;
}

function refuseSecond(command: Command, option: Option, origin: string): void {
  // A command is an event emitter, although Commander's types do not say so. This listener runs
  // before Commander's own, which stores the value of the flag. So if a value from the command line
  // (`cli`) is stored already, the flag is given for the second time.
  (command as unknown as EventEmitter).prependListener(`option:${option.name()}`, () => {
    if (command.getOptionValueSource(option.attributeName()) !== 'cli') return;
    throw new PodError('bad-flag', `${origin}: given twice; leave one out`);
  });
}

function helpOf(key: SettingKey, mode: Mode): string {
  const missing = missingText(key, mode);
  return missing === '' ? schema[key].help : `${schema[key].help} (default ${missing})`;
}
