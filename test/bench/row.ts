/** One measured figure beside the limit it is held against. */
export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The best this machine could do, or the floor that was promised, in the same unit. */
  readonly limit: number;
  readonly limitName: string;
  readonly higherIsBetter: boolean;
}
