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
    // For a `--no-…` flag, Commander sets the default to true. Without this default, the flag has a
    // value only if the user gives the flag.
    if (option.negate) option.default(undefined);
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
 * Refuses (`bad-flag`) a second use of any flag of a command, because the program cannot know which
 * of the two values the user meant. {@link addSettingFlags} does the same for the flags that it
 * adds.
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
