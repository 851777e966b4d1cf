/** Values of an array in row-major order, as f64. */
type Values = readonly number[];

/** Attributes of a batch norm, and the dimensions of its first operand. */
export interface NormOptions {
  readonly opcode: 'batch-norm-training' | 'batch-norm-inference' | 'batch-norm-grad';
  readonly dims: readonly number[];
  readonly epsilon: number;
  readonly featureIndex: number;
}

/** Computes the results of a batch norm in f64, feature by feature, by the formulas of XLA's docs. */
export function batchNormF64(options: NormOptions, operands: readonly Values[]): Values[] {
  const { opcode, dims, epsilon, featureIndex } = options;
  const [x, scale] = operands as [Values, Values];
  const inner = dims.slice(featureIndex + 1).reduce((n, size) => n * size, 1);
  const features = dims[featureIndex]!;
  const results: number[][] = [x.map(() => 0), [], []];
  for (let f = 0; f < features; f++) {
    const places = [...x.keys()].filter((i) => Math.floor(i / inner) % features === f);
    const mean = (of: (i: number) => number): number =>
      places.reduce((sum, i) => sum + of(i), 0) / places.length;
    const isTraining = opcode === 'batch-norm-training';
    const given = opcode === 'batch-norm-inference' ? operands.slice(3) : operands.slice(2);
    const m = isTraining ? mean((i) => x[i]!) : given[0]![f]!;
    const v = isTraining ? mean((i) => (x[i]! - m) ** 2) : given[1]![f]!;
    const deviation = Math.sqrt(v + epsilon);
    if (opcode === 'batch-norm-grad') {
      const ct = given[2]!;
      const shift = mean((i) => ct[i]!);
      const slope = mean((i) => ct[i]! * (x[i]! - m)) / (v + epsilon);
      for (const i of places) {
        results[0]![i] = (scale[f]! / deviation) * (ct[i]! - shift - (x[i]! - m) * slope);
      }
      results[1]![f] = (mean((i) => ct[i]! * (x[i]! - m)) * places.length) / deviation;
      results[2]![f] = shift * places.length;
    } else {
      for (const i of places) {
        results[0]![i] = ((x[i]! - m) / deviation) * scale[f]! + operands[2]![f]!;
      }
      [results[1]![f], results[2]![f]] = [m, v];
    }
  }
  return opcode === 'batch-norm-inference' ? [results[0]!] : results;
}
