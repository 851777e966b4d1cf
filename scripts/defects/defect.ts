/** A guarantee, a change of the source that loses it, and the test that must fail then. */
export interface Defect {
  /** Short, for `--only` and the table. */
  readonly name: string;
  /** The guarantee, as the docs state it. */
  readonly guarantee: string;
  /** The file that is changed. */
  readonly file: string;
  /** A text that stands in the file exactly once, and what takes its place. */
  readonly from: string;
  readonly to: string;
  /** The test file, and the beginning of the name of a test in it. */
  readonly test: string;
  readonly title: string;
}
