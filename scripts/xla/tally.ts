import fc from 'fast-check';
import { parameter } from '../../src/hlo/build.ts';
import { inferShape } from '../../src/hlo/infer.ts';
import type { Draft, HloInstruction, Opcode } from '../../src/hlo/instruction.ts';
import { definitionOf, opcodes } from '../../src/hlo/ops.ts';
import { bodiesOf, postOrder } from '../../src/hlo/traverse.ts';
import { computedTypes, type ElementType } from '../../src/numerics/element-type.ts';
import { PodError } from '../../src/numerics/error.ts';
import { isArray, leafShapes, type Shape } from '../../src/numerics/shape.ts';
import { table } from '../../src/observe/format.ts';
import { arbitraryModule, type Program } from '../../test/hlo/programs.ts';

/** Outcome of the programs of one opcode and one element type. */
export type Outcome =
  | { readonly kind: 'agrees'; readonly programs: number }
  | { readonly kind: 'not compared'; readonly why: string }
  | { readonly kind: 'differs' };

/** How many programs a cell of the tally has at most. */
const programsMax = 4;
/** How many random programs are drawn to find them. */
const drawsMax = 24;

/** A reason why no random program has an instruction of some opcodes with some element types. */
interface NotDrawn {
  readonly why: string;
  readonly opcodes: readonly Opcode[];
  /** Default: all element types. */
  readonly types?: readonly ElementType[];
}

/** Reasons besides this one: our verifier refuses the type. */
const notDrawn: readonly NotDrawn[] = [
  {
    why: 'between replicas: XLA on one device cannot run it (test/hlo/collective.test.ts has 8)',
    opcodes: [
      ...(['all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all'] as const),
      ...(['collective-permute', 'collective-broadcast', 'replica-id', 'partition-id'] as const),
    ],
  },
  { why: 'moves tokens, not arrays', opcodes: ['after-all'] },
  {
    why: 'adds in another order than XLA, which may give results that are far apart',
    opcodes: [
      ...(['batch-norm-training', 'batch-norm-inference', 'batch-norm-grad'] as const),
      ...(['cholesky', 'triangular-solve'] as const),
    ],
  },
  {
    why: 'the computations of random programs add, which pred does not',
    opcodes: ['select-and-scatter', 'scatter', 'call', 'while', 'map', 'fusion'],
    types: ['pred'],
  },
  { why: 'not drawn: the bits of a pred', opcodes: ['bitcast-convert'], types: ['pred'] },
  { why: 'the opcode does not take the type', opcodes: ['iota'], types: ['pred'] },
];

/** Compares the programs of one cell with XLA. Returns undefined if XLA does not run a program. */
export type Judge = (name: string, program: Program) => Promise<Outcome>;

/** The tally: an outcome for each opcode and each element type. */
export type Tally = ReadonlyMap<Opcode, ReadonlyMap<ElementType, Outcome | undefined>>;

/**
 * Compares, for each opcode and each element type, a few random programs that have an instruction of
 * the opcode with an operand or a result of the type.
 */
export async function tallyOf(judge: Judge, seed: number): Promise<Tally> {
  const tally = new Map<Opcode, Map<ElementType, Outcome | undefined>>();
  for (const opcode of opcodes) {
    const row = new Map<ElementType, Outcome | undefined>();
    for (const type of computedTypes) row.set(type, await cellOf(opcode, type, judge, seed));
    tally.set(opcode, row);
  }
  return tally;
}

async function cellOf(
  opcode: Opcode,
  type: ElementType,
  judge: Judge,
  seed: number,
): Promise<Outcome | undefined> {
  const reason = notDrawn.find(
    ({ opcodes: list, types = [type] }) => list.includes(opcode) && types.includes(type),
  );
  if (reason !== undefined) return { kind: 'not compared', why: reason.why };
  if (definitionOf(opcode).accepts?.includes(type) === false || isRefused(opcode, type, seed)) {
    return { kind: 'not compared', why: 'the opcode does not take the type' };
  }
  const programs = programsOf(opcode, type, seed);
  let programsAgreed = 0;
  let notCompared: Outcome | undefined;
  for (const [i, program] of programs.entries()) {
    const outcome = await judge(`${opcode} of ${type}, ${i}`, program);
    if (outcome.kind === 'differs') return outcome;
    if (outcome.kind === 'agrees') programsAgreed++;
    else notCompared = outcome;
  }
  return programsAgreed > 0 ? { kind: 'agrees', programs: programsAgreed } : notCompared;
}

function programsOf(opcode: Opcode, type: ElementType, seed: number): readonly Program[] {
  const options = { opcodes: [opcode], types: [type], specials: false, isPlain: true } as const;
  const sizes = { choicesMax: 16, elementsMax: 24 };
  const drawn = fc.sample(arbitraryModule({ ...options, ...sizes }), { numRuns: drawsMax, seed });
  return drawn.filter((it) => hasInstruction(it, opcode, type)).slice(0, programsMax);
}

/**
 * True if the verifier refuses an opcode with the given type: it takes instructions of random
 * programs, and no longer takes any of them when all arrays with the type of their first operand
 * have the given type instead. Instructions that call computations are not tried.
 */
function isRefused(opcode: Opcode, type: ElementType, seed: number): boolean {
  const options = { opcodes: [opcode], specials: false, choicesMax: 16, elementsMax: 24 };
  const drawn = fc.sample(arbitraryModule(options), { numRuns: drawsMax, seed });
  const found = drawn.flatMap(({ module }) =>
    postOrder(module.entry.root).filter((it) => it.opcode === opcode && it.operands.length > 0),
  );
  return found.length > 0 && found.every((it) => !isTakenAs(it, type));
}

function isTakenAs(it: HloInstruction, type: ElementType): boolean {
  const from = it.operands[0]?.shape.type;
  const changed = (shape: Shape): Shape =>
    isArray(shape) && shape.type === from ? { ...shape, type } : shape;
  const operands = it.operands.map(({ shape }, i) => parameter(i, changed(shape)));
  if (bodiesOf(it).length > 0) return true;
  try {
    inferShape({ ...it, operands, shape: changed(it.shape) } as Draft);
    return true;
  } catch (error) {
    if (error instanceof PodError) return false;
    throw error;
  }
}

function hasInstruction({ module }: Program, opcode: Opcode, type: ElementType): boolean {
  return postOrder(module.entry.root).some((it) => {
    if (it.opcode !== opcode) return false;
    const shapes = [it, ...it.operands].flatMap(({ shape }) => leafShapes(shape));
    return shapes.some((shape) => shape.type === type);
  });
}

/**
 * Returns the tally as text: a row for each opcode, a column for each element type. A number says how
 * many programs agreed, a letter stands for a reason below the table, and `!` for a difference. An
 * empty cell is `?`.
 */
export function tallyText(tally: Tally): string {
  const letters = new Map<string, string>();
  const letterOf = (why: string): string => {
    const known = letters.get(why);
    if (known !== undefined) return known;
    const letter = String.fromCharCode('a'.charCodeAt(0) + letters.size);
    letters.set(why, letter);
    return letter;
  };
  const cell = (outcome: Outcome | undefined): string => {
    switch (outcome?.kind) {
      case undefined:
        return '?';
      case 'agrees':
        return String(outcome.programs);
      case 'differs':
        return '!';
      case 'not compared':
        return letterOf(outcome.why);
    }
  };
  const rows = [...tally].map(([opcode, row]) => [opcode, ...[...row.values()].map(cell)]);
  const reasons = [...letters].map(([why, letter]) => `${letter}  ${why}`);
  return [...table([['', ...computedTypes], ...rows]), '', ...reasons].join('\n');
}
