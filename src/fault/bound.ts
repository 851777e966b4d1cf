/** A bound of a number, such as `<=1`, `>=0.9` or `<2s`. */
export interface Bound {
  readonly relation: '<' | '<=' | '>' | '>=';
  /** Value in the base unit: ms for times, otherwise plain numbers. */
  readonly value: number;
}

const pattern = /^(<=|>=|<|>)\s*(\d+(?:\.\d+)?)\s*(ms|s|min)?$/;
const unitMs = { ms: 1, s: 1000, min: 60_000 } as const;

/**
 * Parses a bound. A bound of a time must have a unit, and a bound of a number must have none.
 * Returns undefined if the text is not such a bound.
 */
export function parseBound(text: string, of: 'time' | 'number'): Bound | undefined {
  const match = pattern.exec(text.trim());
  if (match === null) return undefined;
  const [, relation, digits, unit] = match as unknown as [
    string,
    Bound['relation'],
    string,
    keyof typeof unitMs | undefined,
  ];
  if ((unit !== undefined) !== (of === 'time')) return undefined;
  return { relation, value: Number(digits) * (unit === undefined ? 1 : unitMs[unit]) };
}

/** Returns true if a value satisfies a bound. */
export function satisfies({ relation, value }: Bound, found: number): boolean {
  switch (relation) {
    case '<':
      return found < value;
    case '<=':
      return found <= value;
    case '>':
      return found > value;
    case '>=':
      return found >= value;
  }
}
