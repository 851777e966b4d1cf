/** A change of the source that breaks a guarantee. */
export interface Change {
  /** Short name of the defect, for the option `--only` and for the output. */
  readonly name: string;
  /** The guarantee that the defect breaks, in the words of the docs. */
  readonly guarantee: string;
  /** Path of the source file that the defect changes. */
  readonly file: string;
  /** Text that is replaced. The source file contains this text exactly once. */
  readonly from: string;
  /** Text that replaces `from`. */
  readonly to: string;
}

/** A planted defect: a change of the source, with the test that must fail because of it. */
export interface Defect extends Change {
  /** Path of the file of the test that must fail. */
  readonly test: string;
  /**
   * Part of the full name of one or more tests in the file `test`. At least one of these must fail.
   */
  readonly title: string;
}
