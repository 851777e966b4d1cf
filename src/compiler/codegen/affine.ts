/*
 * Index expressions: the index of an element as a function of loop counters. An expression is a sum
 * of counters times constants. Reshapes, padding and dilation also need quotients and clamped sums.
 * These are simplified to plain sums where the ranges of the counters allow it.
 */

/**
 * Index expression: constant + Σ coefficient · atom. An atom is a loop counter, a quotient or a
 * clamped sum. `key` is the text of the expression. Equal sums have equal keys, because the terms
 * have a fixed order and no coefficient is 0.
 */
export interface Affine {
  readonly constant: number;
  readonly terms: readonly Term[];
  readonly key: string;
}
interface Term {
  readonly atom: Atom;
  readonly coefficient: number;
}
/** Factor that a coefficient multiplies: a loop counter, a quotient or a clamped sum. */
export type Atom = Variable | Quotient | Clamped;

interface Bounds {
  readonly key: string;
  readonly low: number;
  readonly high: number;
}
/** The counter of a loop: 0, 1, …, high. */
export interface Variable extends Bounds {
  readonly kind: 'variable';
}
/**
 * ⌊of / divisor⌋ mod modulus, or ⌊of / divisor⌋ if the modulus is Infinity. Where the sum `of` is
 * negative, the value of the quotient is arbitrary. The result of the generated code must then not
 * depend on this value.
 */
export interface Quotient extends Bounds {
  readonly kind: 'quotient';
  readonly of: Affine;
  readonly divisor: number;
  readonly modulus: number;
}
/** The sum `of`, limited to the range from `low` to `high`: min(max(of, low), high). */
export interface Clamped extends Bounds {
  readonly kind: 'clamped';
  readonly of: Affine;
}

/** A loop counter from 0 to size − 1. Counters with equal keys are the same counter. */
export function variable(key: string, size: number): Variable {
  return { kind: 'variable', key, low: 0, high: size - 1 };
}

/** Returns the expression whose value is always `value`. */
export function constant(value: number): Affine {
  return { constant: value, terms: [], key: `${value}` };
}

/** Returns the expression coefficient · atom. */
export function term(atom: Atom, coefficient: number = 1): Affine {
  return affine(0, [{ atom, coefficient }]);
}

/** Returns the expression a + b. */
export function plus(a: Affine, b: Affine): Affine {
  return affine(a.constant + b.constant, [...a.terms, ...b.terms]);
}

/** Returns the expression a + by. */
export function shifted(a: Affine, by: number): Affine {
  return by === 0 ? a : affine(a.constant + by, a.terms);
}

/** Returns the expression a · factor. */
export function times(a: Affine, factor: number): Affine {
  return affine(
    a.constant * factor,
    a.terms.map(({ atom, coefficient }) => ({ atom, coefficient: coefficient * factor })),
  );
}

/** Returns the expression Σ index[d] · strides[d]. */
export function linear(index: readonly Affine[], strides: readonly number[]): Affine {
  return index.reduce((sum, it, d) => plus(sum, times(it, strides[d]!)), constant(0));
}

/**
 * Returns a lower and an upper bound of the values of an expression, from the ranges of its atoms.
 */
export function rangeOf(a: Affine): { readonly low: number; readonly high: number } {
  let low = a.constant;
  let high = a.constant;
  for (const { atom, coefficient } of a.terms) {
    low += coefficient * (coefficient > 0 ? atom.low : atom.high);
    high += coefficient * (coefficient > 0 ? atom.high : atom.low);
  }
  return { low, high };
}

/**
 * Returns the expression ⌊a / divisor⌋ mod modulus, as a plain sum if possible. Where a < 0 the
 * value is arbitrary.
 */
export function quotient(a: Affine, divisor: number, modulus: number = Infinity): Affine {
  return reduced(divided(a, divisor), modulus) ?? quotientTerm(a, divisor, modulus);
}

/**
 * Returns the expression min(max(a, low), high). Simplifies it if the range of a lies on one side
 * of a bound or within both bounds.
 */
export function clamped(a: Affine, low: number, high: number): Affine {
  const range = rangeOf(a);
  if (low <= range.low && range.high <= high) return a;
  if (range.low >= high || low === high) return constant(high);
  if (range.high <= low) return constant(low);
  return term({ kind: 'clamped', of: a, low, high, key: `c(${a.key},${low},${high})` });
}

/**
 * Returns every loop counter in an expression, also the counters inside quotients and clamped sums.
 */
export function variablesOf(a: Affine): Variable[] {
  return a.terms.flatMap(({ atom }) => (atom.kind === 'variable' ? [atom] : variablesOf(atom.of)));
}

/**
 * Returns the coefficient of the term whose atom is the loop counter `of`, or 0 if there is no such
 * term. Occurrences of the counter inside quotients and clamped sums do not count.
 */
export function coefficientOf(a: Affine, of: Variable): number {
  return a.terms.find(({ atom }) => atom.key === of.key)?.coefficient ?? 0;
}

/** True if the loop counter `at` occurs inside a quotient or a clamped sum of `a`. */
export function isNonlinearIn(a: Affine, at: Variable): boolean {
  return a.terms.some(
    ({ atom }) =>
      atom.kind !== 'variable' && variablesOf(atom.of).some((found) => found.key === at.key),
  );
}

/** Returns the expression `a` and every sum inside its quotients and clamped sums. */
export function nested(a: Affine): Affine[] {
  const inner = a.terms.flatMap(({ atom }) => (atom.kind === 'variable' ? [] : nested(atom.of)));
  return [a, ...inner];
}

function affine(value: number, terms: readonly Term[]): Affine {
  const joined = joinQuotients(collected(terms));
  const parts = joined.map(({ atom, coefficient }) => `${coefficient}*${atom.key}`);
  return { constant: value, terms: joined, key: [value, ...parts].join('+') };
}

function collected(terms: readonly Term[]): Term[] {
  const sums = new Map<string, Term>();
  for (const { atom, coefficient } of terms) {
    const before = sums.get(atom.key)?.coefficient ?? 0;
    sums.set(atom.key, { atom, coefficient: before + coefficient });
  }
  // An atom with equal `low` and `high` is always the counter of a loop that runs once. The counter
  // is 0, so its term is left out.
  const kept = [...sums.values()].filter(
    ({ atom, coefficient }) => coefficient !== 0 && atom.low !== atom.high,
  );
  return kept.sort((a, b) => (a.atom.key < b.atom.key ? -1 : 1));
}

/**
 * Replaces two terms whose quotients divide the same sum x by one term, if this identity applies. c
 * is a coefficient, d a divisor, and m and n are moduli:
 *
 *     c · (⌊x/d⌋ mod m) + c·m · (⌊x/(d·m)⌋ mod n) = c · (⌊x/d⌋ mod m·n)
 */
function joinQuotients(terms: Term[]): Term[] {
  for (const low of terms) {
    if (low.atom.kind !== 'quotient') continue;
    const { of, divisor, modulus } = low.atom;
    for (const high of terms) {
      if (high.atom.kind !== 'quotient' || high.atom.of.key !== of.key) continue;
      if (high.atom.divisor !== divisor * modulus) continue;
      if (high.coefficient !== low.coefficient * modulus) continue;
      const rest = terms.filter((it) => it !== low && it !== high);
      const whole = quotient(of, divisor, modulus * high.atom.modulus);
      // The joined quotient may simplify to a sum with a constant. Then the two quotients stay
      // separate, because the returned list of terms cannot hold a constant.
      if (whole.constant !== 0) continue;
      return joinQuotients(collected([...rest, ...times(whole, low.coefficient).terms]));
    }
  }
  return terms;
}

/**
 * Returns ⌊a / divisor⌋ if it can be written as an affine sum without a division, else undefined.
 */
function divided(a: Affine, divisor: number): Affine | undefined {
  if (divisor === 1) return a;
  const { whole, rest } = split(a, divisor);
  const { low, high } = rangeOf(rest);
  if (low < 0 || high >= divisor) return undefined;
  return affine(
    whole.constant / divisor,
    whole.terms.map(({ atom, coefficient }) => ({ atom, coefficient: coefficient / divisor })),
  );
}

/**
 * Returns a mod modulus if it can be written as an affine sum without a remainder, else undefined.
 * Also returns undefined if a is undefined.
 */
function reduced(a: Affine | undefined, modulus: number): Affine | undefined {
  if (a === undefined || modulus === Infinity) return a;
  const { rest } = split(a, modulus);
  const { low, high } = rangeOf(rest);
  return low >= 0 && high < modulus ? rest : undefined;
}

/**
 * Splits the sum a into two sums: a = whole + rest. Terms whose coefficient is a multiple of `by`
 * go to `whole`, all other terms to `rest`. The constant of a is split too: the constant of `whole`
 * is a multiple of `by`, and the constant of `rest` is in [0, by).
 */
function split(a: Affine, by: number): { readonly whole: Affine; readonly rest: Affine } {
  const over = ((a.constant % by) + by) % by;
  return {
    whole: affine(
      a.constant - over,
      a.terms.filter((it) => it.coefficient % by === 0),
    ),
    rest: affine(
      over,
      a.terms.filter((it) => it.coefficient % by !== 0),
    ),
  };
}

function quotientTerm(a: Affine, divisor: number, modulus: number): Affine {
  const most = Math.max(0, Math.floor(rangeOf(a).high / divisor));
  const high = Math.min(most, modulus - 1);
  if (high === 0) return constant(0);
  const bound = most < modulus ? Infinity : modulus;
  const key = `q(${a.key},${divisor},${bound})`;
  return term({ kind: 'quotient', of: a, divisor, modulus: bound, low: 0, high, key });
}
