import type { Command } from 'commander';
import { addSettingFlags } from './settings/command.ts';
import type { Mode } from './settings/schema.ts';

/** Adds the flags of the settings that a command takes, from the one table of settings. */
export function withTrainFlags(command: Command, mode: Mode): Command {
  return addSettingFlags(command, mode);
}
