import type { HloComputation, HloInstruction, HloModule } from '../../src/hlo/instruction.ts';

/**
 * Returns the path of the first difference between two modules; undefined if they are equal. If two
 * operands are the same object in one module, they must also be the same object in the other one.
 * If not, this counts as a difference.
 */
export function difference(a: HloModule, b: HloModule): string | undefined {
  const pairs = new Map<object, object>();
  const back = new Map<object, object>();
  return differ(a, b, 'module');

  function differ(x: unknown, y: unknown, path: string): string | undefined {
    if (typeof x !== 'object' || typeof y !== 'object' || x === null || y === null) {
      return Object.is(x, y) ? undefined : `${path}: ${String(x)} and ${String(y)}`;
    }
    if (shared(x) || shared(y)) {
      if (pairs.get(x) === y && back.get(y) === x) return undefined;
      if (pairs.has(x) || back.has(y)) return `${path}: shared in one alone`;
      pairs.set(x, y);
      back.set(y, x);
    }
    if (Object.getPrototypeOf(x) !== Object.getPrototypeOf(y)) return `${path}: of two kinds`;
    const keys = new Set([...keysOf(x), ...keysOf(y)]);
    for (const key of keys) {
      const found = differ(Reflect.get(x, key), Reflect.get(y, key), `${path}.${key}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function shared(x: object): x is HloInstruction | HloComputation {
  return 'opcode' in x || 'root' in x;
}

/**
 * Returns the keys of all properties whose value is not undefined. So an object with `name:
 * undefined` counts as equal to an object without `name`.
 */
function keysOf(x: object): string[] {
  return Object.keys(x).filter((key) => Reflect.get(x, key) !== undefined);
}
