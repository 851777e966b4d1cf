import type { Convolution, Dot } from '../../hlo/instruction.ts';
import type { Matmul } from '../../isa/executable.ts';
import { at } from '../../numerics/assert.ts';
import { elementCount } from '../../numerics/shape.ts';
import type { Value } from '../program.ts';
import { convolutionTables, dotTables, type MatmulTables } from '../tables.ts';
import type { Lowerings } from './lowering.ts';
import { nameOf, type StepWriter } from './step.ts';

/** Lowering of the contractions. Those of floats are matmuls on the MXU. */
export const contraction: Lowerings<'dot' | 'convolution'> = {
  dot: { unit: (it, to) => matmul(it, dotTables(it), to), refusal },
  convolution: { unit: (it, to) => matmul(it, convolutionTables(it), to), refusal },
};

function refusal({ shape }: Dot | Convolution): string | undefined {
  return shape.type === 'f32' ? undefined : `the MXU multiplies floats, not ${shape.type}`;
}

function matmul(it: Dot | Convolution, tables: MatmulTables, to: StepWriter): readonly Value[] {
  const operands = it.operands.map((x) => to.valueOf(x));
  const [lhs, rhs] = tables.swapped
    ? [at(operands, 1), at(operands, 0)]
    : [at(operands, 0), at(operands, 1)];
  const target = to.matmulTarget(it, it.shape);
  const sizes = matmulOf(it, tables, to);
  const phase = to.phaseOf(it);
  if (elementCount(target.shape) === 0) return [target];
  to.push({
    reads: [lhs, rhs],
    writes: [target],
    instruction: (buffer) => ({
      unit: 'mxu',
      name: nameOf(it),
      phase,
      matmul: sizes,
      lhs: buffer(lhs),
      rhs: buffer(rhs),
      target: buffer(target),
    }),
  });
  return [target];
}

function matmulOf(it: Dot | Convolution, tables: MatmulTables, to: StepWriter): Matmul {
  return {
    batch: tables.lhsBatch.length,
    m: tables.rows.length,
    n: tables.columns.length,
    k: tables.lhsDepth.length,
    lhsBatch: to.tableIndex(tables.lhsBatch),
    rhsBatch: to.tableIndex(tables.rhsBatch),
    rows: to.tableIndex(tables.rows),
    lhsDepth: to.tableIndex(tables.lhsDepth),
    rhsDepth: to.tableIndex(tables.rhsDepth),
    columns: to.tableIndex(tables.columns),
    precision: it.precision === 'highest' ? 'f32' : 'bf16',
  };
}
