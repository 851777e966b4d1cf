import type { Command } from 'commander';
import { requireUnlocked } from '../../cluster/host/lock.ts';
import {
  type Checkpoint,
  checkpointName,
  type Refusal,
  stepOf,
} from '../experiment/checkpoint/checkpoint.ts';
import {
  gone,
  type Inspected,
  inspectCheckpoint,
  isRefusal,
  listCheckpoints,
  verifyCheckpoint,
} from '../experiment/checkpoint/checkpoints.ts';
import { exportNewest } from '../experiment/checkpoint/export.ts';
import { isOfCheckpoints } from '../experiment/checkpoint/own-files.ts';
import { describeKind } from '../files/read.ts';
import { targetOf } from '../files/target.ts';
import { outliveFileLimit } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';
import { quote, quoteName } from '../numerics/quote.ts';
import { bytes, columns } from '../observe/format.ts';
import { refuseRepeats } from './settings/command.ts';

const examples = `
Examples:
  pod checkpoint ls DIR                              lists the checkpoints in DIR, newest first
  pod checkpoint verify DIR                          checks every byte against the checksums
  pod checkpoint export DIR --output w.safetensors   writes the newest good weights, for other tools

Exit codes: 0 done, 2 a checkpoint is bad or there is none, 5 a file could not be read or written.
`;

/**
 * `pod checkpoint`: lists, verifies and exports the checkpoints of `pod train --checkpoint DIR`.
 */
export function addCheckpoint(program: Command): void {
  const command = program
    .command('checkpoint')
    .description('list, verify and export checkpoints')
    .addHelpText('after', examples);
  command
    .command('ls <dir>')
    .description('list the checkpoints of a directory, newest first')
    .action(list);
  command
    .command('verify <dir>')
    .description('read all checkpoints and check every byte against the checksums')
    .action(verify);
  const exporting = command
    .command('export <dir>')
    .description('write the weights of the newest good checkpoint as one safetensors file')
    .requiredOption('--output <file>', 'the file to write')
    .option('--step <n>', 'export the checkpoint after this step instead')
    .action(exportTo);
  refuseRepeats(exporting);
}

async function list(directory: string): Promise<void> {
  const all = await lookAtAll(directory, (name) => inspectCheckpoint(directory, name));
  const rows = all.map((it) => (isRefusal(it) ? [it.name, `bad: ${it.reason}`] : description(it)));
  print([['checkpoint', 'model', 'data', 'loss', 'size', 'digest of the weights'], ...rows]);
}

async function verify(directory: string): Promise<void> {
  const all = await lookAtAll(directory, (name) => verifyCheckpoint(directory, name));
  const bad = all.filter(isRefusal).length;
  print(all.map(verdict));
  if (bad > 0) {
    throw new PodError('bad-data', `${directory}: ${bad} of ${all.length} checkpoints are bad`);
  }
}

/**
 * Calls `look` for each checkpoint in the given folder and returns the results. Leaves out a
 * checkpoint that a run has deleted since the folder was listed.
 */
async function lookAtAll<T>(
  directory: string,
  look: (name: string) => Promise<T | typeof gone>,
): Promise<T[]> {
  for (;;) {
    const all: T[] = [];
    for (const name of await namesIn(directory)) {
      const found = await look(name);
      if (found !== gone) all.push(found);
    }
    // The result is empty only if a run has deleted every listed checkpoint. The folder is then
    // listed again: it has newer checkpoints, which a run writes before it deletes old ones.
    if (all.length > 0) return all;
  }
}

interface ExportFlags {
  readonly output: string;
  readonly step?: string;
}

async function exportTo(directory: string, { output, step: given }: ExportFlags): Promise<void> {
  const step = given === undefined ? undefined : stepNumber(given);
  const target = exportTarget(directory, output);
  const list = async (): Promise<readonly string[]> => {
    const names = await namesIn(directory);
    return step === undefined ? names : namesAt(step, names);
  };
  outliveFileLimit();
  const { file, refused } = await exportNewest(directory, list, target);
  for (const { name, reason } of refused) process.stderr.write(`refused ${name}: ${reason}\n`);
  if (file === undefined) {
    throw new PodError('bad-data', `${directory}: expected a good checkpoint, found only bad ones`);
  }
  process.stdout.write(`${output}: the weights of ${file.name}, ${bytes(file.bytes)}\n`);
}

/**
 * Returns the path of the file to export to, with symbolic links resolved.
 *
 * @throws PodError `bad-flag` if the path is a device, a pipe, a folder or part of the checkpoints,
 * `in-use` if another process has locked the file.
 */
function exportTarget(directory: string, output: string): string {
  const target = targetOf(output);
  if (target.kind !== 'file') {
    const { expected, found } =
      target.kind === 'refused'
        ? target
        : { expected: 'a regular file', found: describeKind(target.stats) };
    throw new PodError(
      'bad-flag',
      `--output: expected ${expected}, found ${found} (${quote(output)})`,
    );
  }
  if (isOfCheckpoints(directory, target.path, target.stats)) {
    const expected = `expected a path that is not part of the checkpoints in ${quoteName(directory)}`;
    const found = `${quoteName(output)}; name another file`;
    throw new PodError('bad-flag', `--output: ${expected}, found ${found}`);
  }
  requireUnlocked(target.path, `--output ${output}`);
  return target.path;
}

/**
 * Parses a step number, which must be decimal digits. `Number` alone would also accept `0x3` and
 * `3e0`.
 */
function stepNumber(given: string): number {
  if (/^\d+$/.test(given)) return Number(given);
  throw new PodError('bad-flag', `--step: expected a whole number, found ${quote(given)}`);
}

function namesAt(step: number, names: readonly string[]): readonly string[] {
  const found = names.filter((name) => stepOf(name) === step);
  if (found.length > 0) return found;
  throw new PodError('bad-flag', `--step: expected one of ${names.join(', ')}, found ${step}`);
}

async function namesIn(directory: string): Promise<readonly string[]> {
  const names = await listCheckpoints(directory);
  if (names.length > 0) return names;
  throw new PodError(
    'bad-data',
    `${directory}: expected checkpoints such as ${checkpointName(120)}, found none`,
  );
}

function description({ name, manifest }: Inspected): string[] {
  const { config, loss, weightsDigest } = manifest;
  const [model, data] = [String(config['model']), String(config['data'])];
  return [name, model, data, loss.toFixed(4), bytes(sizeOf(manifest)), weightsDigest];
}

function verdict(found: Checkpoint | Refusal): string[] {
  if (isRefusal(found)) return ['bad', found.name, found.reason];
  const { name, manifest } = found;
  return ['ok', name, `${bytes(sizeOf(manifest))}, weights ${manifest.weightsDigest}`];
}

function sizeOf({ files }: Inspected['manifest']): number {
  return files.reduce((sum, file) => sum + file.bytes, 0);
}

function print(rows: readonly (readonly string[])[]): void {
  process.stdout.write(`${columns(rows).join('\n')}\n`);
}
