import { computedTypes, type ElementType, elementTypes } from '../../src/numerics/element-type.ts';

/** Element types of numbers. */
export const numbers: readonly ElementType[] = computedTypes.filter((type) => type !== 'pred');
/** Element types of floats. */
export const floats: readonly ElementType[] = computedTypes.filter(
  (type) => elementTypes[type].kind === 'float',
);
/** Element types whose bits are those of IEEE 754: sign, exponent, mantissa. */
export const ieeeFloats: readonly ElementType[] = floats.filter(
  (type) => elementTypes[type].ieee !== undefined,
);
