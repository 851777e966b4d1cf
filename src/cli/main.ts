#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { isSystemError } from '../experiment/checkpoint/files.ts';
import { errorCodes, PodError } from '../numerics/error.ts';
import { addCheckpoint } from './checkpoint.ts';
import { addCompile } from './compile.ts';
import { addDevices } from './devices.ts';
import { addDoctor } from './doctor.ts';
import { addJobs } from './jobs.ts';
import { addTrain } from './train.ts';
import { addUp } from './up.ts';

const program = new Command('pod')
  .description('A Cloud TPU v2 pod that fits on a laptop: trains on 1 to 64 emulated Cloud TPUs.')
  .version('0.1.0')
  .exitOverride()
  .configureOutput({ outputError: () => {} })
  .showSuggestionAfterError(true);
addTrain(program);
addUp(program);
addJobs(program);
addCompile(program);
addCheckpoint(program);
addDevices(program);
addDoctor(program);

await main(process.argv.slice(2));

/** Runs the command; every failure is one line on standard error and a stable exit code. */
async function main(argv: readonly string[]): Promise<void> {
  process.stdout.on('error', ignoreClosedPipe);
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    process.exitCode = report(error);
  }
}

function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    process.stderr.write(`pod: bad-flag: ${oneLine(error.message.replace(/^error: /, ''))}\n`);
    return 2;
  }
  if (error instanceof PodError) {
    process.stderr.write(`pod: ${error.code}: ${oneLine(error.message)}\n`);
    return error.exitCode;
  }
  if (isSystemError(error)) {
    process.stderr.write(`pod: io: ${oneLine(error.message)}\n`);
    return errorCodes.io;
  }
  process.stderr.write(
    `pod: a mistake in pod itself, please report it: ${oneLine(String(error))}\n`,
  );
  if (error instanceof Error && process.env['POD_DEBUG']) process.stderr.write(`${error.stack}\n`);
  return 1;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, '; ');
}

/** `pod … | head` ends early: that is no error. */
function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
}
