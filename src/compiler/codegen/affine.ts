/*
 * Index expressions: the index of an element as a function of loop counters. An expression is a sum
 * of counters times constants. Reshapes, padding and dilation also need quotients and clamped sums,
 * unless the ranges of the counters make these unnecessary.
 */

/** constant + Σ coefficient · atom; terms in a fixed order, no coefficient 0. */
export interface Affine {
  readonly constant: number;
  readonly terms: readonly Term[];
  readonly key: string;
}
interface Term {
  readonly atom: Atom;
  readonly coefficient: number;
}
/** The factor of a term besides its coefficient: a counter, a quotient or a clamped sum. */
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
/** ⌊of / divisor⌋ mod modulus (Infinity: no modulus). Its value matters only where of ≥ 0. */
export interface Quotient extends Bounds {
  readonly kind: 'quotient';
  readonly of: Affine;
  readonly divisor: number;
  readonly modulus: number;
}
/** min(max(of, low), high). */
export interface Clamped extends Bounds {
  readonly kind: 'clamped';
  readonly of: Affine;
}

/** A loop counter from 0 to size − 1. Counters with equal keys are the same counter. */
export function variable(key: string, size: number): Variable {
  return { kind: 'variable', key, low: 0, high: size - 1 };
}

/** The expression that is always `value`. */
export function constant(value: number): Affine {
  return { constant: value, terms: [], key: `${value}` };
}

/** coefficient · atom. */
export function term(atom: Atom, coefficient: number = 1): Affine {
  return affine(0, [{ atom, coefficient }]);
}

/** a + b. */
export function plus(a: Affine, b: Affine): Affine {
  return affine(a.constant + b.constant, [...a.terms, ...b.terms]);
}

/** a + by. */
export function shifted(a: Affine, by: number): Affine {
  return by === 0 ? a : affine(a.constant + by, a.terms);
}

/** a · factor. */
export function times(a: Affine, factor: number): Affine {
  return affine(
    a.constant * factor,
    a.terms.map(({ atom, coefficient }) => ({ atom, coefficient: coefficient * factor })),
  );
}

/** Σ index[d] · strides[d]. */
export function linear(index: readonly Affine[], strides: readonly number[]): Affine {
  return index.reduce((sum, it, d) => plus(sum, times(it, strides[d]!)), constant(0));
}

/** Lower and upper bound of an expression's values, from the ranges of its counters. */
export function rangeOf(a: Affine): { readonly low: number; readonly high: number } {
  let low = a.constant;
  let high = a.constant;
  for (const { atom, coefficient } of a.terms) {
    low += coefficient * (coefficient > 0 ? atom.low : atom.high);
    high += coefficient * (coefficient > 0 ? atom.high : atom.low);
  }
  return { low, high };
}

/** ⌊a / divisor⌋ mod modulus for a ≥ 0. Where a < 0 the result may be any value. */
export function quotient(a: Affine, divisor: number, modulus: number = Infinity): Affine {
  return reduced(divided(a, divisor), modulus) ?? quotientTerm(a, divisor, modulus);
}

/** min(max(a, low), high), simplified if the range of a allows it. */
export function clamped(a: Affine, low: number, high: number): Affine {
  const range = rangeOf(a);
  if (low <= range.low && range.high <= high) return a;
  if (range.low >= high || low === high) return constant(high);
  if (range.high <= low) return constant(low);
  return term({ kind: 'clamped', of: a, low, high, key: `c(${a.key},${low},${high})` });
}

/** Every variable of an expression, also those inside quotients and clamps. */
export function variablesOf(a: Affine): Variable[] {
  return a.terms.flatMap(({ atom }) => (atom.kind === 'variable' ? [atom] : variablesOf(atom.of)));
}

/** The coefficient of a variable outside of quotients and clamps; 0 if it does not occur there. */
export function coefficientOf(a: Affine, of: Variable): number {
  return a.terms.find(({ atom }) => atom.key === of.key)?.coefficient ?? 0;
}

/** True if the variable occurs inside a quotient or a clamp. */
export function isNonlinearIn(a: Affine, at: Variable): boolean {
  return a.terms.some(
    ({ atom }) =>
      atom.kind !== 'variable' && variablesOf(atom.of).some((found) => found.key === at.key),
  );
}

/** The expression `a`, and every sum inside its quotients and clamps. */
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
  // An atom with only one value is the counter of a loop that runs once, which is always 0.
  const kept = [...sums.values()].filter(
    ({ atom, coefficient }) => coefficient !== 0 && atom.low !== atom.high,
  );
  return kept.sort((a, b) => (a.atom.key < b.atom.key ? -1 : 1));
}

/** Joins quotients: c · (x/d mod m) + c·m · (x/(d·m) mod n) becomes c · (x/d mod m·n). */
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
      // The result is a list of terms, which cannot hold the constant of a simplified quotient.
      if (whole.constant !== 0) continue;
      return joinQuotients(collected([...rest, ...times(whole, low.coefficient).terms]));
    }
  }
  return terms;
}

/** ⌊a / divisor⌋ if that is a sum without a quotient, else undefined. */
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

/** a mod modulus if that is a sum without a quotient, else undefined. */
function reduced(a: Affine | undefined, modulus: number): Affine | undefined {
  if (a === undefined || modulus === Infinity) return a;
  const { rest } = split(a, modulus);
  const { low, high } = rangeOf(rest);
  return low >= 0 && high < modulus ? rest : undefined;
}

/** Splits a sum into `whole`, all parts that `by` divides, and `rest`, so that a = whole + rest. */
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
