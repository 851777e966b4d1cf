/** A change of the source that breaks a guarantee, and the test that must fail because of it. */
export interface Defect {
  /** Short name, for `--only` and the table. */
  readonly name: string;
  /** The guarantee that the change breaks, as the docs state it. */
  readonly guarantee: string;
  /** Path of the source file that is changed. */
  readonly file: string;
  /** Text that the file contains exactly once. */
  readonly from: string;
  /** Text that replaces `from`. */
  readonly to: string;
  /** Path of the test file. */
  readonly test: string;
  /** Part of the full name of one or more tests in that file. At least one must fail. */
  readonly title: string;
}
