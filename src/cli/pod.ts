import { Command, CommanderError } from 'commander';
import { asksToIgnoreHangUp, exitCodeOf } from '../../cluster/host/ending.ts';
import { StandardStreams } from '../../cluster/host/standard-streams.ts';
import { describeError } from '../../cluster/worker/last-words.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine, quote } from '../numerics/quote.ts';
import { addChaos } from './chaos.ts';
import { addCheckpoint } from './checkpoint.ts';
import { addCompile } from './compile.ts';
import { addDevices } from './devices.ts';
import { addDoctor } from './doctor.ts';
import { addDown } from './down.ts';
import { addJobs } from './jobs.ts';
import { addLogs } from './logs.ts';
import { addReport } from './report.ts';
import { addStatus } from './status.ts';
import { addTrain } from './train.ts';
import { addUp } from './up.ts';
import { version } from './version.ts';

const program = new Command('pod')
  .description('A Cloud TPU v2 pod that fits on a laptop: trains on 1 to 64 emulated Cloud TPUs.')
  .version(version)
  .exitOverride()
  .configureOutput({ outputError: () => {}, writeErr: () => {} })
  .showSuggestionAfterError(true);
addTrain(program);
addUp(program);
addStatus(program);
addLogs(program);
addDown(program);
addJobs(program);
addCompile(program);
addCheckpoint(program);
addReport(program);
addChaos(program);
addDevices(program);
addDoctor(program);

endAsDocumented();
await main(process.argv.slice(2));

/**
 * Runs the command. Every failure prints one line to standard error and sets a documented exit
 * code.
 */
async function main(argv: readonly string[]): Promise<void> {
  const streams = new StandardStreams();
  process.on('uncaughtException', (error) => process.exit(report(error)));
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    process.exitCode = report(error);
  }
  await streams.settled();
  if (streams.lost === undefined || (process.exitCode ?? 0) !== 0) return;
  process.exitCode = report(new PodError('io', `output was lost: ${streams.lost}`));
}

/**
 * Makes SIGHUP end this process at once, with the same exit code as SIGTERM (143). There are two
 * exceptions. A command with its own handler of SIGHUP, such as `pod train`, decides itself when to
 * end. A process that was started with `nohup` ignores SIGHUP.
 */
function endAsDocumented(): void {
  process.on('SIGHUP', () => {
    const isAlone = process.listenerCount('SIGHUP') === 1;
    if (isAlone && !asksToIgnoreHangUp()) process.exit(exitCodeOf('SIGHUP'));
  });
}

function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    const isHelp = error.code === 'commander.help';
    complain(`bad-flag: ${isHelp ? noCommand() : error.message.replace(/^error: /, '')}`);
    return 2;
  }
  const { code, exitCode, message, stack } = describeError(error);
  if (code !== undefined) {
    complain(`${code}: ${message}`);
    return exitCode;
  }
  complain(`a mistake in pod itself, please report it: ${String(error)}`);
  if (process.env['POD_DEBUG']) process.stderr.write(`${stack}\n`);
  return exitCode;
}

/**
 * Returns the message for an unknown command, as in `pod help nope`, or for a missing subcommand,
 * as in `pod checkpoint`.
 */
function noCommand(): string {
  const [first = '', ...others] = process.argv.slice(2);
  const of = program.commands.some((it) => it.name() === first) ? `pod ${first}` : 'pod';
  const found = others[0] === undefined ? 'none' : quote(others.at(-1));
  return `expected a command of ${of}, found ${found}; ${of} --help lists them`;
}

function complain(text: string): void {
  process.stderr.write(`pod: ${oneLine(text)}\n`);
}
