import type { Command, Option } from 'commander';
import type { CompileOptions } from '../compiler/compile.ts';
import { describe } from '../compiler/describe.ts';
import { openDataset } from '../data/open.ts';
import { replicasPerCloudTpu, type TrainConfig, totalSteps } from '../experiment/config.ts';
import { compileFor, rematOf, trainingStep } from '../experiment/programs.ts';
import { formatTopology } from '../fabric/torus.ts';
import { hopsOf } from '../fault/hops.ts';
import { collectivePhases } from '../fault/plan.ts';
import type { HloModule } from '../hlo/instruction.ts';
import { print } from '../hlo/print.ts';
import type { Executable } from '../isa/executable.ts';
import { PodError, withOrigin } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { bytes, columns, count, table } from '../observe/format.ts';
import { moduleInFile } from './hlo-file.ts';
import { type RawOptions, trainOptions } from './options.ts';
import { addSettingFlags } from './settings/command.ts';

/** A training step at each stage of the compiler. */
interface Stages {
  /**
   * One entry for each stage, in the order of compilation. The keys are `hlo` (before all passes),
   * the name of each pass, and `executable` (the result of the compiler).
   */
  readonly texts: ReadonlyMap<string, Stage>;
  readonly executable: Executable;
}
interface Stage {
  readonly does: string;
  readonly text: () => string;
}

/** `pod compile`: shows what the compiler does to a training step. */
export function addCompile(program: Command): void {
  const command = program
    .command('compile')
    .argument('[file]', 'HLO text of a program, as XLA prints it, instead of a training step')
    .description('show what the compiler makes of a training step, or of a program in a file');
  addSettingFlags(command, 'compile')
    .addHelpText(
      'after',
      '\nExamples:\n  pod compile --model cnn\n  pod compile --model mlp --print fusion\n  pod compile --model mlp --print executable\n  pod compile program.hlo\n',
    )
    .action((file: string | undefined, flags: RawOptions, given: Command) => {
      if (file !== undefined) return showFile(file, given);
      const { config, print: pass } = trainOptions(flags, 'compile');
      if (pass === undefined) summarize(config);
      else printPass(config, pass);
    });
}

/** Shows what the compiler makes of the program in a file. */
function showFile(file: string, command: Command): void {
  const { print: pass } = command.opts<RawOptions>();
  const isGiven = (it: Option): boolean =>
    command.getOptionValueSource(it.attributeName()) === 'cli';
  const other = command.options.find((it) => it.long !== '--print' && isGiven(it));
  if (other !== undefined) {
    const advice = 'the file is the whole program, without settings';
    throw new PodError(
      'bad-flag',
      `${other.long} with ${quote(file)}: expected only --print; ${advice}`,
    );
  }
  const stages = stagesOfFile(file);
  if (pass !== undefined) printStage(stages, String(pass));
  else process.stdout.write(`${summaryOf(stages).join('\n')}\n`);
}

/**
 * Prints the training step as it is after a pass. `pass` is the name or the number of the pass, or
 * `hlo` for the step before all passes, or `executable` for the result of the compiler. Throws
 * PodError `bad-flag` for any other text.
 */
export function printPass(config: TrainConfig, pass: string): void {
  printStage(stagesOf(config), pass);
}

function printStage({ texts }: Stages, pass: string): void {
  const names = [...texts.keys()];
  const name = /^\d+$/.test(pass) ? names[Number(pass)] : pass;
  const stage = name === undefined ? undefined : texts.get(name);
  if (stage === undefined) {
    const listed = names.map((it, i) => `${i} ${it}`).join(', ');
    throw new PodError('bad-flag', `--print: expected one of ${listed}, found ${quote(pass)}`);
  }
  process.stdout.write(`${stage.text().trimEnd()}\n`);
}

function stagesOf(config: TrainConfig): Stages {
  const dataset = openDataset(config.data, config.seed);
  const { module } = trainingStep(config, dataset, totalSteps(config, dataset.train.size));
  const texts = new Map<string, Stage>([['hlo', stage('what the model library built', module)]]);
  const keepPrevious = config.recovery !== 'none';
  const options = { keepPrevious, ...rematOf(config) };
  return compiledStages(texts, (listener) => compileFor(module, { ...options, listener }));
}

function stagesOfFile(file: string): Stages {
  const module = moduleInFile(file);
  const texts = new Map<string, Stage>([['hlo', stage(`what ${file} says`, module)]]);
  return withOrigin(file, () =>
    // The program is compiled for one Cloud TPU, whose cores are the replicas.
    compiledStages(texts, (listener) =>
      compileFor(module, { listener, replicas: replicasPerCloudTpu }),
    ),
  );
}

/** Compiles, and adds the stage after each pass and the executable to `texts`. */
function compiledStages(
  texts: Map<string, Stage>,
  run: (listener: NonNullable<CompileOptions['listener']>) => Executable,
): Stages {
  const executable = run((pass, after) => {
    texts.set(pass.name, stage(pass.does, after));
  });
  const does = 'schedules, assigns buffers, and lowers to instructions of the core';
  texts.set('executable', { does, text: () => describe(executable) });
  return { texts, executable };
}

function stage(does: string, module: HloModule): Stage {
  return { does, text: () => print(module) };
}

function summarize(config: TrainConfig): void {
  const lines = [...summaryOf(stagesOf(config)), hopsText(config)];
  process.stdout.write(`${lines.join('\n')}\n`);
}

function summaryOf({ texts, executable }: Stages): readonly string[] {
  const passes = [...texts].map(([name, { does, text }], i) => [
    `${i} ${name}`,
    `${count(text().split('\n').length)} lines`,
    does,
  ]);
  return [...columns(passes), '', ...memory(executable), ...plainCode(executable)];
}

/** Lists the instructions for which no unit of the core has code. Plain code runs them, slowly. */
function plainCode({ instructions }: Executable): readonly string[] {
  const counts = new Map<string, number>();
  for (const it of instructions) {
    if (it.unit !== 'plain') continue;
    const text = `${it.opcode}: ${it.reason}`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  if (counts.size === 0) return [];
  const rows = [...counts].map(([text, n]) => `  ${count(n)} × ${text}`);
  return ['in plain code, which is slow, because no unit of the core has code for it:', ...rows];
}

/** Says how many hops a bucket makes in each phase of its all-reduce on the slice of a run. */
function hopsText({ topology }: TrainConfig): string {
  const hops = collectivePhases.map((phase) => `${phase} ${hopsOf(phase, topology)}`);
  return `hops of a bucket on ${formatTopology(topology)} Cloud TPUs: ${hops.join(', ')}`;
}

function memory({ hbm, instructions, buckets, exchanges, code }: Executable): string[] {
  const units = new Map<string, number>();
  for (const { unit } of instructions) units.set(unit, (units.get(unit) ?? 0) + 1);
  return [
    `${count(instructions.length)} instructions: ${[...units].map(([unit, n]) => `${n} ${unit}`).join(', ')}`,
    `${counted(buckets, 'bucket')} of gradients${exchangesText(exchanges)}; ${bytes(code.length)} of generated code`,
    `HBM of a core: ${bytes(hbm.peak)} of ${bytes(hbm.limit)}`,
    ...table(hbm.largest.map((it) => [`  ${it.name} ${it.shape}`, bytes(it.bytes)])),
  ];
}

function counted(list: readonly unknown[], noun: string): string {
  return `${list.length} ${noun}${list.length === 1 ? '' : 's'}`;
}

/** Says how many exchanges the other collectives became. */
function exchangesText(exchanges: Executable['exchanges']): string {
  return exchanges.length === 0 ? '' : `, ${counted(exchanges, 'exchange')} of rows`;
}
