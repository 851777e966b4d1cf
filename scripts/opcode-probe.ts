/**
 * Tests that a new opcode is four entries: its definition, its derivative, its code and its work.
 * Adds an opcode to a copy of this checkout, once whole and once without each of the four entries.
 * Whole, the copy compiles, and the opcode is printed, parsed, evaluated, differentiated, compiled
 * and run. Without an entry, the TypeScript compiler refuses the copy and names the opcode.
 *
 *   node dist/scripts/opcode-probe.js
 *
 * Exit codes: 0 all this holds; 1 something does not hold; 2 the entries do not fit the sources any
 * more.
 */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandOf } from './command.ts';
import { type Edit, fits, makeCopy, tool, withEdits } from './defects/copy.ts';

/** An entry of the new opcode: one place of the source. */
interface Entry {
  readonly name: string;
  readonly edits: readonly Edit[];
}

/** The new opcode: `double` x is x + x. */
const entries: readonly Entry[] = [
  {
    name: 'definition',
    edits: [
      inserted('src/hlo/ops/unary.ts', "  'double',\n", "  'exponential',\n"),
      inserted(
        'src/hlo/ops/unary.ts',
        "  double: { takes: 'number', of: (x) => x + x },\n",
        "  exponential: { takes: 'float', of: onNumber(lanes.exp) },\n",
      ),
    ],
  },
  {
    name: 'derivative',
    edits: [
      inserted(
        'src/autodiff/rules.ts',
        '  double: unaryRule((ct) => add(ct, ct)),\n',
        '  exponential: unaryRule((ct, _, y) => multiply(ct, y)),\n',
      ),
    ],
  },
  {
    name: 'lowering',
    edits: [
      inserted(
        'src/compiler/lowering/elementwise.ts',
        '  double: unary({\n' +
          '    float: (lanes, x) => lanes.f32.add(x, x),\n' +
          "    ...integers((lanes, x) => lanes.op('i32x4Add', x, x)),\n" +
          '  }),\n',
        '  exponential: unary({ float: (lanes, x) => transcendental.exp(lanes.f32, x) }),\n',
      ),
    ],
  },
  {
    name: 'work',
    edits: [
      inserted('src/compiler/work.ts', '  double: perResult,\n', '  exponential: perResult,\n'),
    ],
  },
];

/** Returns the edit that inserts `text` before the line `line`. */
function inserted(file: string, text: string, line: string): Edit {
  return { file, from: line, to: text + line };
}

/** Test of the new opcode, for the copy. */
const probeTest = `
import { expect, test } from 'vitest';
import { gradient } from '../src/autodiff/gradient.ts';
import * as b from '../src/hlo/build.ts';
import { evaluate } from '../src/hlo/evaluate.ts';
import { parse } from '../src/hlo/parse.ts';
import { print } from '../src/hlo/print.ts';
import { bitsOf, expected, runLoop } from './compiler/codegen/run.ts';
import { literal, valuesOf } from '../src/numerics/literal.ts';
import { arrayShape } from '../src/numerics/shape.ts';

const types = ['f32', 'bf16', 's32', 'u32'] as const;
const values = [0, 1, 3, 2 ** 30, 7, 100, 5];

test.each(types)('the opcode double of %s is printed, parsed, evaluated and compiled', (type) => {
  const x = b.parameter(0, arrayShape(type, [7]));
  const it = b.unary('double', x);
  const module = b.module('probe', [x], it);
  const text = print(module);
  expect(text).toContain(' double(');
  expect(print(parse(text))).toBe(text);
  const args = [literal(type, [7], values)];
  const result = evaluate(parse(text), { parameters: args }).values[0]!;
  expect(valuesOf(result).slice(0, 3)).toEqual([0, 2, 6]);
  expect(runLoop(module.entry, args).map(bitsOf)).toEqual(expected(module.entry, args).map(bitsOf));
});

test('the opcode double has a derivative', () => {
  const x = b.parameter(0, arrayShape('f32', []));
  const [slope] = gradient(b.unary('double', x), [x]);
  const at3 = evaluate(b.module('slope', [x], slope!), { parameters: [literal('f32', [], [3])] });
  expect(valuesOf(at3.values[0]!)).toEqual([2]);
});
`;

commandOf('opcode-probe')
  .description('check that a new opcode is four entries, and that none can be forgotten')
  .parse();
process.exitCode = probe();

function probe(): number {
  const copy = makeCopy();
  try {
    if (!entries.every((entry) => isFitting(copy, entry))) return 2;
    writeFileSync(join(copy, 'test/opcode-probe.test.ts'), probeTest);
    const isRight = [isWholeRight(copy), ...entries.map((entry) => isRefused(copy, entry))];
    const refusals = isRight.slice(1).filter(Boolean).length;
    say(`${entries.length} places, ${refusals} refusals`);
    return isRight.every(Boolean) ? 0 : 1;
  } finally {
    rmSync(copy, { recursive: true });
  }
}

/** True if the edits of an entry fit the sources. If not, says so. */
function isFitting(copy: string, { name, edits }: Entry): boolean {
  const stray = edits.find((edit) => !fits(copy, edit));
  if (stray === undefined) return true;
  process.stderr.write(
    `opcode-probe: ${name}: expected once in ${stray.file}: ${stray.from.trim()}; adapt this script\n`,
  );
  return false;
}

/** Adds all entries. True if the copy then compiles and the test of the opcode passes. */
function isWholeRight(copy: string): boolean {
  return withEntries(copy, entries, () => {
    const errors = errorsIn(copy);
    const fails = errors === '' ? testErrors(copy) : '';
    const isRight = errors === '' && fails === '';
    say(`${isRight ? 'right' : 'wrong'}: with ${entries.length} entries the opcode is complete`);
    if (!isRight) say(errors + fails);
    return isRight;
  });
}

/** Adds all entries but one. True if the compiler then refuses the copy because of the opcode. */
function isRefused(copy: string, left: Entry): boolean {
  const others = entries.filter((entry) => entry !== left);
  return withEntries(copy, others, () => {
    const errors = errorsIn(copy);
    const isRight = errors.includes('double');
    say(
      `${isRight ? 'right' : 'wrong'}: without the ${left.name} the compiler ${isRight ? 'refuses' : 'accepts'} it`,
    );
    if (isRight) say(`       ${firstOf(errors)}`);
    return isRight;
  });
}

function withEntries<T>(copy: string, some: readonly Entry[], work: () => T): T {
  return withEdits(
    copy,
    some.flatMap(({ edits }) => edits),
    work,
  );
}

/** Returns the errors of the TypeScript compiler, a line each; an empty text if there are none. */
function errorsIn(copy: string): string {
  const config = 'tsconfig.probe.json';
  const include = ['numerics', 'spec', 'hlo', 'autodiff', 'isa', 'compiler'].map(
    (it) => `src/${it}`,
  );
  writeFileSync(join(copy, config), JSON.stringify({ extends: './tsconfig.json', include }));
  const args = [tool('typescript', 'tsc'), '-p', config];
  return spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8' }).stdout;
}

/** Returns where the first error is, and its number, such as `src/a.ts(1,2): error TS2741`. */
function firstOf(errors: string): string {
  return /^[^:]*: error TS\d+/.exec(errors)?.[0] ?? errors;
}

/** Runs the test of the opcode. Returns its output if it fails; otherwise an empty text. */
function testErrors(copy: string): string {
  const args = [tool('vitest', 'vitest'), 'run', 'test/opcode-probe.test.ts'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: copy,
    encoding: 'utf8',
  });
  return status === 0 ? '' : stdout + stderr;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
