import type { Command } from 'commander';
import { hasEnded, type Job } from '../../cluster/master/jobs.ts';
import { PodError } from '../numerics/error.ts';
import { jsonText, oneLine, plainLines } from '../numerics/quote.ts';
import { columns, milliseconds } from '../observe/format.ts';
import { type LogReader, LogText } from '../observe/log-text.ts';
import {
  type FoundJob,
  isErrorCode,
  type JobClient,
  openJobClient,
  type PlaceFlags,
} from './job-client.ts';
import { withMaster } from './place.ts';
import { endWithReader } from './reader.ts';
import { isForPerson, screenOf } from './screen.ts';
import { jobRequest } from './settings/submit.ts';

const where = `
The master is found by --api and --token-file, otherwise by POD_API and POD_TOKEN_FILE, otherwise by the
folder of pod up (--dir, default .pod), otherwise (in a container of a pod) at http://127.0.0.1:7080 with
the token in /run/secrets/pod-token.
`;

const submitExamples = `
Examples:
  pod submit -- --model mlp --steps 20               queues a job and prints its name
  pod submit --wait -- --model mlp                   shows its log, and exits as pod train does
  pod submit --wait --json -- --steps 20 >run.json   the summary to run.json, the log to standard error
  docker compose exec serve pod submit -- --steps 20

Flags of pod train come after --. This command reads the --config file and makes relative paths
absolute; the data and checkpoints at these paths must be on the machine of the master. With --wait, the
end of this command does not end the job.
Exit codes: those of pod train; 130 if the job was cancelled.
`;

const jobsExamples = `
Examples:
  pod jobs                                           lists all jobs, in the order in which they run
  pod jobs --json                                    the same as JSON, for programs
  pod jobs job-3                                     shows one job, with its summary if it is done
`;

const cancelExamples = `
Examples:
  pod cancel job-3         ends a waiting job at once, a running job after its present step
`;

/**
 * `pod submit`, `pod jobs` and `pod cancel`: manage jobs of a pod that takes jobs. `pod logs JOB`
 * is in `logs.ts`.
 */
export function addJobs(program: Command): void {
  withPlace(program.command('submit').description('send a job to a pod that takes jobs'))
    .argument('[flags...]', 'flags of pod train, after --')
    .option('--wait', 'show the log of the job until the job ends, and exit with its exit code')
    .option('--json', 'print the job, or with --wait its summary, as JSON')
    .addHelpText('after', submitExamples + where)
    .action(submit);
  withPlace(program.command('jobs').description('list the jobs of a pod that takes jobs'))
    .argument('[job]', 'show only this job, with its summary')
    .option('--json', 'print the jobs as JSON')
    .addHelpText('after', jobsExamples + where)
    .action(jobs);
  withPlace(program.command('cancel').description('cancel a waiting or running job'))
    .argument('<job>', 'name of the job, such as job-3')
    .addHelpText('after', cancelExamples + where)
    .action(cancel);
}

/** Adds the flags that say where the master is and which file contains the token. */
export function withPlace(command: Command): Command {
  return withMaster(command).option('--token-file <file>', 'file that contains the join token');
}

/**
 * `pod logs JOB`: prints the log of a job. Prints text on a terminal, and lines of JSON into a pipe
 * or with `--json`.
 */
export async function printJobLog(
  id: string,
  place: PlaceFlags,
  { follow, json }: { readonly follow: boolean; readonly json: boolean },
): Promise<void> {
  const client = openJobClient(place);
  if (follow) endWithReader();
  if (!json && isForPerson(process.stdout)) await showLog(client, id, follow, 'reader');
  else for await (const text of client.log(id, follow)) process.stdout.write(plainLines(text));
}

/** Shows the log of a job as text. Every piece that `client.log` yields consists of whole lines. */
async function showLog(
  client: JobClient,
  id: string,
  follow: boolean,
  reader: LogReader,
): Promise<void> {
  const shown = new LogText(screenOf(process.stdout), reader);
  try {
    for await (const text of client.log(id, follow)) {
      for (const line of text.split('\n')) shown.write(line);
    }
  } finally {
    shown.end();
  }
}

interface SubmitFlags extends PlaceFlags {
  readonly wait?: boolean;
  readonly json?: boolean;
}

async function submit(words: readonly string[], flags: SubmitFlags): Promise<void> {
  const { wait = false, json = false, ...place } = flags;
  const client = openJobClient(place);
  const job = await send(client, words);
  if (!wait) {
    print([json ? jsonText(job) : oneLine(job.id)]);
    return;
  }
  const name = oneLine(job.id);
  endWithReader(`${name} continues; pod logs ${name} --follow shows its log`);
  const output = json ? process.stderr : process.stdout;
  output.write(`${name}\n`);
  if (!json && isForPerson(process.stdout)) await showLog(client, job.id, true, 'follower');
  else for await (const text of client.log(job.id, true)) output.write(plainLines(text));
  settle(await client.find(job.id), json);
}

/**
 * Sends a job. If the master refuses the job, throws the master's error with another message. In
 * this message, a setting has the name that the user wrote: the flag, or the key in the `--config`
 * file.
 */
async function send(client: JobClient, words: readonly string[]): Promise<Job> {
  const request = jobRequest(words, process.cwd());
  try {
    return await client.submit(request.words);
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    throw new PodError(error.code, request.inWordsOfSender(error.message), error);
  }
}

/**
 * Reports the end of a job for `pod submit --wait`. If the job failed, throws the error of the job.
 * If the job was cancelled, sets exit code 130. If the job is done and `json` is true, prints the
 * report of the job.
 */
function settle({ job, report }: FoundJob, json: boolean): void {
  if (job.state === 'done' && json) {
    print([jsonText(report, 2)]);
  }
  if (job.state === 'cancelled') {
    process.stderr.write(`pod: ${oneLine(job.id)} was cancelled\n`);
    process.exitCode = 130;
  }
  if (job.state !== 'failed') return;
  const text = `${job.id}: ${job.reason}`;
  throw isErrorCode(job.code) ? new PodError(job.code, text) : new Error(text);
}

async function jobs(
  id: string | undefined,
  { json, ...place }: PlaceFlags & { readonly json?: boolean },
): Promise<void> {
  const client = openJobClient(place);
  if (id !== undefined) {
    const { job, report } = await client.find(id);
    if (json) print([jsonText({ ...job, report })]);
    else print([...rowsOf([job]), ...summary(report)]);
    return;
  }
  const { jobs: all, damaged } = await client.list();
  if (json) print([jsonText(all)]);
  else print(rowsOf(all));
  for (const { reason } of damaged) process.stderr.write(`pod: ${oneLine(reason)}\n`);
}

async function cancel(id: string, place: PlaceFlags): Promise<void> {
  const job = await openJobClient(place).cancel(id);
  const when = hasEnded(job) ? 'the job is cancelled' : 'the job ends after its present step';
  process.stdout.write(`${id}: ${when}\n`);
}

function rowsOf(all: readonly Job[]): string[] {
  const head = ['job', 'state', 'submitted', 'ran for', 'flags', ''];
  return columns([head, ...all.map(rowOf)]);
}

function rowOf(job: Job): string[] {
  const submitted = `${new Date(job.submittedMs).toISOString().slice(0, 19)}Z`;
  return [
    oneLine(job.id),
    stateOf(job),
    submitted,
    ranFor(job),
    job.words.map(word).join(' '),
    endOf(job),
  ];
}

function stateOf(job: Job): string {
  return job.state === 'running' && job.isCancelling ? 'cancelling' : job.state;
}

function ranFor(job: Job): string {
  if (job.state === 'queued' || job.startedMs === null) return '-';
  const endMs = job.state === 'running' ? Date.now() : job.endedMs;
  return milliseconds(Math.max(0, endMs - job.startedMs));
}

function endOf(job: Job): string {
  return job.state === 'failed' ? oneLine(`${job.code}: ${job.reason}`) : '';
}

function summary(report: FoundJob['report']): string[] {
  return report === undefined ? [] : ['', jsonText(report, 2)];
}

/**
 * Returns a flag or a value of a job for display on one line: quoted as JSON if the text has
 * special characters.
 */
function word(text: string): string {
  return /^[\w./:=,@%+-]+$/.test(text) ? text : jsonText(text);
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}
