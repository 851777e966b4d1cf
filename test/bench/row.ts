/** One measured figure, and a limit (best possible or promised figure) to compare it with. */
export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The best possible figure on this machine, or the promised figure, in the same unit. */
  readonly limit: number;
  readonly limitName: string;
  readonly higherIsBetter: boolean;
}
