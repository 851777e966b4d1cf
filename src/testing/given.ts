import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';

/**
 * Returns the options that a test gives in code, without those that are undefined. Options that are
 * missing or wrong are refused when the plan is checked, so a test in JavaScript gets the same
 * message as a plan.
 */
export function given<T extends object>(options: T): T {
  return Object.fromEntries(
    Object.entries(options ?? {}).filter(([, value]) => value !== undefined),
  ) as T;
}

/**
 * Checks what a test gives in code and what the schema of plans does not check. The types of the
 * library already say it, but a test may be written in JavaScript.
 *
 * @throws PodError `bad-plan` for the first wrong value.
 */
export function checkGiven(options: unknown, faults: readonly unknown[], file: unknown): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw wrong('pod()', 'settings such as { tpus: 4 }', options);
  }
  const { faultFree } = options as { readonly faultFree?: unknown };
  if (faultFree !== undefined && typeof faultFree !== 'boolean') {
    throw wrong('faultFree of pod()', 'true or false', faultFree);
  }
  if (file !== undefined && typeof file !== 'string') {
    throw wrong('plan()', 'the path of a plan file', file);
  }
  for (const [index, fault] of faults.entries()) checkPlaced(fault, `pod(): faults.${index}`);
}

/** Checks that a fault has a position. Other mistakes are left to the schema of plans. */
function checkPlaced(it: unknown, name: string): void {
  if (typeof it === 'object' && it !== null && 'fault' in it) return;
  const example = 'kill(3).at({ step: 10 })';
  if (typeof it === 'object' && it !== null && 'at' in it) {
    const found = 'found one without a position; call .at()';
    throw new PodError('bad-plan', `${name}: expected a fault such as ${example}, ${found}`);
  }
  throw wrong(name, `a fault such as ${example}`, it);
}

function wrong(name: string, expected: string, found: unknown): PodError {
  return new PodError('bad-plan', `${name}: expected ${expected}, found ${quote(found)}`);
}
