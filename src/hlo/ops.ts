import { computedTypes, type ElementType } from '../numerics/element-type.ts';
import type { HloInstruction, InstructionOf, Opcode } from './instruction.ts';
import { type BinaryOpcode, binaryDefinitions } from './ops/binary.ts';
import { collectiveDefinitions } from './ops/collective.ts';
import { contractionDefinitions } from './ops/contraction.ts';
import { controlDefinitions } from './ops/control.ts';
import type { Definition, ReplicaValues } from './ops/definition.ts';
import { elementwiseDefinitions } from './ops/elementwise.ts';
import { gatheringDefinitions } from './ops/gather.ts';
import { hostDefinitions } from './ops/host.ts';
import { identityDefinitions } from './ops/identity.ts';
import { indexedDefinitions } from './ops/indexed.ts';
import { leafDefinitions } from './ops/leaf.ts';
import { linearAlgebraDefinitions } from './ops/linear-algebra.ts';
import { normalizationDefinitions } from './ops/normalization.ts';
import { orderingDefinitions } from './ops/ordering.ts';
import { randomDefinitions } from './ops/random.ts';
import { rearrangingDefinitions } from './ops/rearranging.ts';
import { reductionDefinitions } from './ops/reduction.ts';
import { structureDefinitions } from './ops/structure.ts';
import { type UnaryOpcode, unaryDefinitions } from './ops/unary.ts';

const definitions: { readonly [O in Opcode]: Definition<InstructionOf<O>> } = {
  ...leafDefinitions,
  ...unaryDefinitions,
  ...binaryDefinitions,
  ...elementwiseDefinitions,
  ...rearrangingDefinitions,
  ...contractionDefinitions,
  ...reductionDefinitions,
  ...randomDefinitions,
  ...collectiveDefinitions,
  ...hostDefinitions,
  ...structureDefinitions,
  ...orderingDefinitions,
  ...indexedDefinitions,
  ...gatheringDefinitions,
  ...controlDefinitions,
  ...normalizationDefinitions,
  ...linearAlgebraDefinitions,
  ...identityDefinitions,
};

/** All opcodes. */
export const opcodes = Object.keys(definitions) as readonly Opcode[];

/** True if `text` is the name of an opcode. */
export function isOpcode(text: string): text is Opcode {
  return Object.hasOwn(definitions, text);
}

/** Returns the definition of an opcode. The definition also fits instructions of other types. */
export function definitionOf(opcode: Opcode): Definition {
  // Each definition takes the instructions of its own opcode only. The caller passes such ones.
  return definitions[opcode] as Definition;
}

/** Returns the family of an instruction's opcode. */
export function familyOf({ opcode }: Pick<HloInstruction, 'opcode'>): Definition['family'] {
  return definitions[opcode].family;
}

/** Returns what an instruction does besides computing a value; undefined for nothing. */
export function effectOf({ opcode }: Pick<HloInstruction, 'opcode'>): Definition['effect'] {
  return definitions[opcode].effect;
}

/** Returns whether the replicas get values that may differ; undefined if that follows from operands. */
export function replicaValuesOf(it: HloInstruction): ReplicaValues | undefined {
  const { replicas } = definitionOf(it.opcode);
  return typeof replicas === 'function' ? replicas(it) : replicas;
}

/** Returns the element types that an element-wise opcode accepts. */
export function typesOf(opcode: UnaryOpcode | BinaryOpcode): readonly ElementType[] {
  return definitions[opcode].accepts ?? computedTypes;
}
