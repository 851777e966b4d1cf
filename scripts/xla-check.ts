/**
 * Checks our HLO texts, and the values that `hlo/evaluate` computes, against XLA itself. The
 * programs are random programs over all opcodes, and the training steps of the networks `mlp` and
 * `cnn`. Two checks run for each program:
 *
 * 1. The script prints the program as HLO text before the first compiler pass and after every pass.
 *    XLA's parser must accept each text. XLA prints the parsed module as a second text. Our parser
 *    must accept this second text. `evaluate` must give the same bits for both texts.
 * 2. XLA's CPU backend runs the program. Its results must equal those of `evaluate`: integers
 *    exactly, f32 to 1e-5 of the largest element, floats of at most 16 bits to one unit in its last
 *    place. Known differences, each with its reason, are counted.
 *
 * With `--tally`, the programs are a few of each opcode and each element type (xla/tally.ts).
 *
 *   python3 -m venv xla && xla/bin/pip install jax==0.10.2
 *   npm run compile && node dist/scripts/xla-check.js --python xla/bin/python --programs 2000
 *
 * Exit codes: 0 all comparisons agreed (the output counts programs that XLA cannot run); 1 a
 * comparison did not agree; 2 wrong input or no XLA.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { compile } from '../src/compiler/compile.ts';
import { tuple } from '../src/hlo/build.ts';
import { type EvaluateInputs, evaluate } from '../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule, Opcode } from '../src/hlo/instruction.ts';
import { parse } from '../src/hlo/parse.ts';
import { print } from '../src/hlo/print.ts';
import { postOrder } from '../src/hlo/traverse.ts';
import { at } from '../src/numerics/assert.ts';
import { leastOf, type Scalar } from '../src/numerics/element-type.ts';
import { PodError } from '../src/numerics/error.ts';
import { bytesOf, type Literal, scalarsOf } from '../src/numerics/literal.ts';
import { isArray, type Shape } from '../src/numerics/shape.ts';
import { columns } from '../src/observe/format.ts';
import { arbitraryModule, type Program } from '../test/hlo/programs.ts';
import { script, wholeNumber } from './command.ts';
import { NoXla, Xla } from './xla/client.ts';
import { type Difference, differenceOf, isSmall } from './xla/compare.ts';
import { withoutHost } from './xla/host.ts';
import { type Outcome, tallyOf, tallyText } from './xla/tally.ts';
import { trainingPrograms } from './xla/training.ts';

interface Options {
  readonly python: string;
  readonly programs: number;
  readonly seed: number;
  readonly texts?: string;
  readonly tally?: boolean;
}

const options = script(
  'xla-check',
  'compare HLO texts and the results of their programs with XLA',
  '--python xla/bin/python --programs 2000',
)
  .option('--python <program>', 'a Python 3.11 that has jax 0.10.2', 'python3')
  .option('--programs <n>', 'number of random programs', wholeNumber, 2000)
  .option('--seed <n>', 'seed of the random programs', wholeNumber, 1)
  .option(
    '--texts <dir>',
    'keep the texts of findings in this folder, as pod and as XLA print them',
  )
  .option('--tally', 'compare a few programs of each opcode and element type, and print a table')
  .parse()
  .opts<Options>();

/**
 * Known errors of XLA's CPU backend. XLA's parser accepts the programs that have them, but the
 * backend cannot run these programs. A program whose error matches `pattern` is counted under the
 * text `why`; it is not a finding.
 */
const notRun: readonly (readonly [why: string, pattern: RegExp])[] = [
  [
    'not run by XLA: rng-bit-generator, whose state its CPU backend takes as u64 alone',
    /(shift-right-logical|add) with different element types: u32\[[\d,]*\] and u64\[/,
  ],
  [
    'not run by XLA: its compiler crashed on a select-and-scatter',
    /^XLA crashed.*select-and-scatter/,
  ],
  ['not run by XLA: its compiler crashed on a sort of constants', /^XLA crashed.* sort/],
  [
    'not run by XLA: its constant folder divided an integer by zero',
    /^XLA crashed \(SIGFPE\).* (divide|remainder)\b/,
  ],
  [
    'not run by XLA: a dot or convolution of integers of 2 bits',
    /^UNIMPLEMENTED: unsupported operand type [SU]2 in op (dot|convolution)/,
  ],
  [
    'not run by XLA: a topk of integers of less than 8 bits',
    /does not support custom element sizes on non-sub-byte types.* topk/,
  ],
  [
    'not run by XLA: a sort of several arrays, which it refuses for their layouts',
    /^INTERNAL: Inputs must have the same shape: .*sort/,
  ],
];

/**
 * Largest accepted difference of two integers that are the bits of floats, in units in the last
 * place of the floats. Our float and XLA's float may differ a little, for example after a cosine.
 * Integers that a program makes of their bits then differ too.
 */
const lastPlacesMax = 8;
/** How many findings (disagreements with XLA) are printed at most. */
const findingsMax = 40;

interface Subject {
  readonly name: string;
  readonly module: HloModule;
  readonly inputs: EvaluateInputs;
}

const counts = new Map<string, number>();
const findings: string[] = [];
const xla = new Xla(options.python);
try {
  if (options.tally === true) await makeTally();
  else for (const subject of [...trainingPrograms(), ...randomPrograms()]) await check(subject);
  process.exitCode = report();
} catch (error) {
  if (!(error instanceof NoXla)) throw error;
  process.stderr.write(`xla-check: ${error.message}\n`);
  process.exitCode = 2;
} finally {
  xla.close();
}

/** Prints the counts and the findings. Returns the exit code. */
function report(): number {
  say(columns([...counts].sort().map(([kind, count]) => [kind, String(count)])).join('\n'));
  for (const finding of findings.slice(0, findingsMax)) say(finding);
  say(findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`);
  return findings.length === 0 ? 0 : 1;
}

function randomPrograms(): Subject[] {
  const programs = fc.sample(arbitraryModule({ specials: false, isPlain: true }), {
    numRuns: options.programs,
    seed: options.seed,
  });
  return programs.map((program, i) => ({ name: `program ${i}`, ...program }));
}

async function check(subject: Subject): Promise<void> {
  await checkTexts(subject);
  await checkValues(subject);
}

/**
 * Checks that XLA's parser accepts the text of a program before the first compiler pass and after
 * every pass. For each text, XLA prints back the module that it has parsed. Checks that this module
 * computes the same bits as ours.
 */
async function checkTexts({ name, module, inputs }: Subject): Promise<void> {
  const stages = stagesOf(module);
  const answers = await xla.parse(stages.map(({ text }) => text));
  for (const [i, answer] of answers.entries()) {
    const stage = at(stages, i);
    const where = `${name} ${stage.name}`;
    count('texts given to the parser of XLA');
    if ('error' in answer) find('texts refused by XLA', `${where}: ${firstLine(answer.error)}`);
    else checkReadBack(where, answer.printed, stage.module, inputs);
  }
}

function checkReadBack(
  where: string,
  printed: string,
  module: HloModule,
  inputs: EvaluateInputs,
): void {
  try {
    const read = parse(printed);
    // Modules with equal texts are equal. They are not evaluated, because `evaluate` is slow for a
    // network.
    const isSame =
      print(read) === print(module) || sameBits(resultsOf(read, inputs), resultsOf(module, inputs));
    if (isSame) count('texts printed by XLA, parsed by pod: the same bits');
    else findInText('text printed by XLA, parsed by pod: other bits', where, module, printed);
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    findInText(`text printed by XLA, refused by pod: ${error.message}`, where, module, printed);
  }
}

/** Compares a few programs of each opcode and element type with XLA, and prints the table. */
async function makeTally(): Promise<void> {
  const judge = async (name: string, { module, inputs }: Program): Promise<Outcome> => {
    const subject = { name, module, inputs };
    await checkTexts(subject);
    return checkValues(subject);
  };
  const tally = await tallyOf(judge, options.seed);
  say(tallyText(tally));
  for (const [opcode, row] of tally) {
    for (const [type, outcome] of row) {
      if (outcome === undefined) find('cells without a reason', `${opcode} of ${type}`);
    }
  }
}

async function checkValues({ name, module, inputs }: Subject): Promise<Outcome> {
  const hostless = withoutHost(module, inputs);
  if (hostless.hasParametersForConstants) {
    count('constants given to XLA as parameters: it folds count-leading-zeros wrongly');
  }
  const ours = resultsOf(module, inputs);
  const found = await xla.run(print(hostless.module), hostless.parameters);
  if ('error' in found) {
    const error = `${firstLine(found.error)}: ${opcodesOf(module).join(' ')}`;
    const [why] = notRun.find(([, pattern]) => pattern.test(error)) ?? [];
    if (why === undefined) find('not run by XLA', `${name}: ${error}`);
    else count(why);
    return { kind: 'not compared', why: why ?? 'not run by XLA: see the findings' };
  }
  const difference = differenceOf(found.results, ours);
  const kind = kindOf(difference, { name, module, inputs });
  if (kind !== undefined) {
    count(`run by XLA: ${kind}`);
    return { kind: 'agrees', programs: 1 };
  }
  const what = `${name}: ${difference?.what}: ${opcodesOf(module).join(' ')}`;
  find('run by XLA: other results', what);
  return { kind: 'differs' };
}

/** Names a difference that is no error. Returns undefined for any other difference. */
function kindOf(
  difference: Difference | undefined,
  { module, inputs }: Subject,
): string | undefined {
  if (difference === undefined) return 'the same bits';
  if (isSmall(difference)) return 'within the tolerance';
  if (isLastPlace(difference, module)) {
    return 'bits of a float, by bitcast-convert, whose last place differs';
  }
  if (selectsAmongEqual(module, inputs)) {
    return 'a select-and-scatter selected another one of equal elements';
  }
  if (hasOperandOf(module, ['popcnt'], ['s2', 's4'])) {
    return 'a popcnt of s2 or s4, in which the CPU backend counts the sign in all 8 bits of a byte';
  }
  if (hasOperandOf(module, ['sort'], ['s2', 'u2'])) {
    return 'a sort of integers of 2 bits, from which the CPU backend loses elements';
  }
  if (valuesIn(module, inputs, isOperandOfSort).some(hasNan)) {
    return 'a sort compared NaN by a comparison that gives NaN no place';
  }
  if (losesNan(module, inputs)) {
    return 'a NaN that reduce-precision rounds to no bits of mantissa, which XLA takes as infinity';
  }
  if (foldsEqualPairs(module, inputs)) {
    return 'a fold of two arrays by the greatest element, which is there several times';
  }
  return valuesIn(module, inputs, isOfFloats).some((it) => scalarsOf(it).some(isSubnormal))
    ? 'a number below 2^-126, which only one of the two takes as zero'
    : undefined;
}

/** True if a NaN is rounded to a format that has no bits of mantissa, and so has no NaN. */
function losesNan(module: HloModule, inputs: EvaluateInputs): boolean {
  const isRounded = (_: HloInstruction, users: readonly HloInstruction[]): boolean =>
    users.some((user) => user.opcode === 'reduce-precision' && user.mantissaBits === 0);
  return valuesIn(module, inputs, isRounded).some(hasNan);
}

/**
 * True if the program folds two arrays together, and the first one has equal elements or an element
 * that equals its initial value. The partner of the greatest element then depends on the order, which
 * is XLA's choice.
 */
function foldsEqualPairs(module: HloModule, inputs: EvaluateInputs): boolean {
  const folds: readonly Opcode[] = ['reduce', 'reduce-window'];
  const isFirst = (it: HloInstruction, users: readonly HloInstruction[]): boolean =>
    users.some(
      ({ opcode, operands }) => folds.includes(opcode) && operands.length > 2 && operands[0] === it,
    );
  return valuesIn(module, inputs, isFirst).some((it) => {
    const all = [...scalarsOf(it), leastOf(it.shape.type)];
    return new Set(all).size < all.length;
  });
}

function hasNan(it: Literal): boolean {
  return scalarsOf(it).some(Number.isNaN);
}

function hasOperandOf(
  { entry }: HloModule,
  opcodes: readonly Opcode[],
  types: readonly Shape['type'][],
): boolean {
  return postOrder(entry.root).some(
    ({ opcode, operands }) =>
      opcodes.includes(opcode) && operands.some(({ shape }) => types.includes(shape.type)),
  );
}

/** Returns the arrays that the program computes and that `isWanted` selects. */
function valuesIn(
  module: HloModule,
  inputs: EvaluateInputs,
  isWanted: (it: HloInstruction, users: readonly HloInstruction[]) => boolean,
): readonly Literal[] {
  const { entry } = module;
  const order = postOrder(entry.root);
  const wanted = order.filter((it) => {
    const users = order.filter(({ operands }) => operands.includes(it));
    return isArray(it.shape) && isWanted(it, users);
  });
  const root = tuple(wanted);
  return evaluate({ ...module, entry: { ...entry, root }, aliases: [] }, inputs).values;
}

function isOperandOfSort(_: HloInstruction, users: readonly HloInstruction[]): boolean {
  return users.some(({ opcode }) => opcode === 'sort' || opcode === 'topk');
}

function isOfFloats({ shape }: HloInstruction): boolean {
  return shape.type === 'f32' || shape.type === 'bf16';
}

function isSubnormal(value: Scalar): boolean {
  const size = Math.abs(Number(value));
  return size > 0 && size < 2 ** -126;
}

/**
 * True if the program reads the bits of a float as an integer (`bitcast-convert`), and the results
 * differ by at most `lastPlacesMax` units in the last place. Such a difference is not an error: our
 * float and XLA's float may differ a little, so integers made of their bits differ too.
 */
function isLastPlace({ apart }: Difference, { entry }: HloModule): boolean {
  const isOfFloats = ({ opcode, operands: [operand] }: HloInstruction): boolean =>
    opcode === 'bitcast-convert' && operand?.shape.type === 'f32';
  return apart <= lastPlacesMax && postOrder(entry.root).some(isOfFloats);
}

/**
 * True if the program has a select-and-scatter whose operand has equal elements. Among equal elements
 * of a window, our definition selects the first in row-major order. XLA may go through the dimensions
 * of the window in another order, and then selects another one.
 */
function selectsAmongEqual(module: HloModule, inputs: EvaluateInputs): boolean {
  const isSelectedFrom = (it: HloInstruction, users: readonly HloInstruction[]): boolean =>
    users.some(({ opcode, operands }) => opcode === 'select-and-scatter' && operands[0] === it);
  return valuesIn(module, inputs, isSelectedFrom).some((it) => {
    const all = scalarsOf(it);
    return new Set(all).size < all.length;
  });
}

interface Stage {
  readonly name: string;
  readonly module: HloModule;
  readonly text: string;
}

/**
 * Returns the module as built, and the module after every compiler pass. If a pass refuses the
 * program (`unsupported-program`), returns only the modules before that pass.
 */
function stagesOf(module: HloModule): Stage[] {
  const stages: Stage[] = [{ name: 'as built', module, text: print(module) }];
  try {
    compile(module, {
      cores: 1,
      replicas: 1,
      listener: (pass, after) => {
        stages.push({ name: `after ${pass.name}`, module: after, text: print(after) });
      },
    });
  } catch (error) {
    if (!(error instanceof PodError) || error.code !== 'unsupported-program') throw error;
    count('programs that the compiler of pod refuses');
  }
  return stages;
}

function resultsOf(module: HloModule, inputs: EvaluateInputs): readonly Literal[] {
  const { values, outfeed } = evaluate(module, inputs);
  return [...values, ...outfeed.flat()];
}

function sameBits(a: readonly Literal[], b: readonly Literal[]): boolean {
  return (
    a.length === b.length &&
    a.every((it, i) => Buffer.compare(bytesOf(it), bytesOf(at(b, i))) === 0)
  );
}

function opcodesOf({ entry }: HloModule): string[] {
  const skipped: readonly HloInstruction['opcode'][] = ['parameter', 'constant', 'tuple'];
  const all = postOrder(entry.root).map(({ opcode }) => opcode);
  return [...new Set(all)].filter((it) => !skipped.includes(it));
}

function count(kind: string): void {
  counts.set(kind, (counts.get(kind) ?? 0) + 1);
}

function find(kind: string, what: string): void {
  count(kind);
  findings.push(`${kind}: ${what}`);
}

function findInText(kind: string, where: string, module: HloModule, printed: string): void {
  find(kind, where);
  if (options.texts === undefined) return;
  mkdirSync(options.texts, { recursive: true });
  const path = join(options.texts, where.replaceAll(/\W+/g, '-'));
  writeFileSync(`${path}.ours.hlo`, print(module));
  writeFileSync(`${path}.xla.hlo`, printed);
}

function firstLine(text: string): string {
  return text.split('\n').slice(0, 4).join(' | ').slice(0, 400);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
