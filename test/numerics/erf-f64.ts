/**
 * Error function in f64, from its definitions: a series for small |x|, a continued fraction for the
 * others. [Abramowitz and Stegun, 7.1.6 and 7.1.14]
 */
export function erfF64(x: number): number {
  const magnitude = Math.abs(x);
  const value = magnitude < 2.5 ? series(magnitude) : 1 - complement(magnitude);
  return x < 0 || Object.is(x, -0) ? -value : value;
}

/** 2/√π · e^(−x²) · Σ 2^n · x^(2n+1) / (1 · 3 · … · (2n+1)). All terms are positive. */
function series(x: number): number {
  let term = x;
  let sum = 0;
  for (let n = 1; sum + term !== sum; n++) {
    sum += term;
    term *= (2 * x * x) / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** 1 − erf x = e^(−x²) / √π / (x + ½/(x + 1/(x + 3/2/(x + …)))). */
function complement(x: number): number {
  if (Number.isNaN(x) || x > 30) return Number.isNaN(x) ? x : 0;
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}
