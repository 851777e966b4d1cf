/** Values of an array in row-major order. */
type Values = readonly number[];
type Matrix = readonly (readonly number[])[];
/** Rounds the result of an operation. */
type Round = (x: number) => number;

const exact: Round = (x) => x;

/** Returns the matrices of an array of dimensions `dims`. */
export function matricesOf(values: Values, dims: readonly number[]): Matrix[] {
  const [rows, columns] = dims.slice(-2) as [number, number];
  const count = dims.slice(0, -2).reduce((n, size) => n * size, 1);
  return Array.from({ length: count }, (_, m) =>
    Array.from({ length: rows }, (_, i) => {
      const from = (m * rows + i) * columns;
      return values.slice(from, from + columns);
    }),
  );
}

/** Returns the transpose of a matrix that is not empty. */
export function transposed(a: Matrix): Matrix {
  return (a[0] ?? []).map((_, j) => a.map((row) => row[j]!));
}

/** Returns the product of two matrices. */
export function multiplied(a: Matrix, b: Matrix): Matrix {
  return a.map((row) =>
    transposed(b).map((column) => row.reduce((sum, x, k) => sum + x * column[k]!, 0)),
  );
}

/** Returns the lower triangle L with A = L·Lᵀ, by recursion over its elements. */
export function choleskyF64(a: Matrix, round: Round = exact): Matrix {
  const known = new Map<string, number>();
  const element = (i: number, j: number): number => {
    const found = known.get(`${i},${j}`);
    if (found !== undefined) return found;
    let rest = a[i]![j]!;
    for (let k = 0; k < j; k++) rest = round(rest - round(element(i, k) * element(j, k)));
    const value = i === j ? round(Math.sqrt(rest)) : round(rest / element(j, j));
    known.set(`${i},${j}`, value);
    return value;
  };
  return a.map((row, i) => row.map((_, j) => (j > i ? 0 : element(i, j))));
}

export interface SolveOptions {
  readonly isLeftSide: boolean;
  readonly isLower: boolean;
  readonly hasUnitDiagonal: boolean;
  readonly isTransposed: boolean;
}

/** Returns the triangle that a triangular solve reads of a matrix. */
export function triangleOf(a: Matrix, { isLower, hasUnitDiagonal }: SolveOptions): Matrix {
  return a.map((row, i) =>
    row.map((x, j) => {
      if (i === j) return hasUnitDiagonal ? 1 : x;
      return i > j === isLower ? x : 0;
    }),
  );
}

/** Solves op(A)·X = B or X·op(A) = B for X, by recursion over the unknowns. */
export function solveF64(
  a: Matrix,
  b: Matrix,
  options: SolveOptions,
  round: Round = exact,
): Matrix {
  const triangle = triangleOf(a, options);
  const isUpper = options.isLower === (options.isTransposed === options.isLeftSide);
  const op = options.isTransposed ? transposed(triangle) : triangle;
  const left = options.isLeftSide ? op : transposed(op);
  if (b.length === 0 || b[0]!.length === 0) return b;
  const lines = options.isLeftSide ? transposed(b) : b;
  const solved = lines.map((line) => lineOf(left, line, isUpper, round));
  return options.isLeftSide ? transposed(solved) : solved;
}

function lineOf(t: Matrix, b: Values, isUpper: boolean, round: Round): number[] {
  const x: number[] = [];
  const places = isUpper ? [...b.keys()].reverse() : [...b.keys()];
  const solve = (i: number): number => {
    const before = places.slice(0, places.indexOf(i));
    const rest = before.reduce((sum, k) => round(sum - round(t[i]![k]! * x[k]!)), b[i]!);
    return round(rest / t[i]![i]!);
  };
  for (const i of places) x[i] = solve(i);
  return x;
}
