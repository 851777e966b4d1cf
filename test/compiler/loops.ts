import type { FusedLoop } from '../../src/compiler/codegen/fused-loop.ts';
import type { Codegen } from '../../src/compiler/pipeline.ts';
import {
  binaryOpcodes,
  type HloComputation,
  type HloInstruction,
  type Opcode,
  unaryOpcodes,
} from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { at } from '../../src/numerics/assert.ts';
import { sameShape } from '../../src/numerics/shape.ts';

/**
 * Returns a substitute for the code generator, which generates no code. It collects the fused loops
 * in the list `kept`. A test passes this list to `interpret`, which evaluates the bodies of the
 * loops. By default the substitute accepts each body with at most one reduction.
 */
export function keepLoops(
  rules: Pick<Codegen, 'supports' | 'inPlace'> = plainRules,
): Codegen & { readonly kept: FusedLoop[] } {
  const kept: FusedLoop[] = [];
  return {
    ...rules,
    kept,
    generate: (loops) => {
      kept.push(...loops);
      return new Uint8Array();
    },
  };
}

const plainRules: Pick<Codegen, 'supports' | 'inPlace'> = {
  supports: (body) => countReductions(body) <= 1 || 'more than one reduction',
  inPlace,
};

function countReductions(body: HloComputation): number {
  const reductions = new Set<Opcode>(['reduce', 'reduce-window', 'select-and-scatter']);
  return postOrder(body.root).filter(({ opcode }) => reductions.has(opcode)).length;
}

const elementwise: ReadonlySet<Opcode> = new Set<Opcode>([
  ...unaryOpcodes,
  ...binaryOpcodes,
  'compare',
  'select',
]);

/**
 * Returns the indices of the parameters whose memory the target with index `target` may overwrite.
 * If all instructions of the body are element-wise, these are the parameters with the shape of the
 * target. Otherwise there are none.
 */
function inPlace(body: HloComputation, target: number): number[] {
  const inner = postOrder(body.root).filter((it) => it.opcode !== 'tuple');
  const isPlain = (it: HloInstruction): boolean =>
    elementwise.has(it.opcode) || it.opcode === 'parameter' || it.opcode === 'constant';
  if (!inner.every(isPlain)) return [];
  const { root } = body;
  const shape = root.opcode === 'tuple' ? at(root.operands, target).shape : root.shape;
  return body.parameters.filter((it) => sameShape(it.shape, shape)).map(({ index }) => index);
}
