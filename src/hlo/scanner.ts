import { PodError } from '../numerics/error.ts';

/** Scanner of a text: a position that moves forward over each token that the parser takes. */
export class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Offset of the next token, after white space and comments. */
  get position(): number {
    this.#skip();
    return this.#at;
  }

  get atEnd(): boolean {
    return this.position === this.#text.length;
  }

  /**
   * Takes and returns the text that the sticky pattern matches. Returns undefined if it does not
   * match.
   */
  tryMatch(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  match(pattern: RegExp, expected: string): string {
    return this.tryMatch(pattern) ?? this.fail(expected);
  }

  /** Takes `text` if it comes next. Returns true if it does. */
  take(text: string): boolean {
    const found = this.#text.startsWith(text, this.position);
    if (found) this.#at += text.length;
    return found;
  }

  expect(text: string): void {
    if (!this.take(text)) this.fail(JSON.stringify(text));
  }

  /** Takes a list: `open`, items separated by commas, `close`. `item` takes one item. */
  list<T>(open: string, close: string, item: () => T): T[] {
    this.expect(open);
    const items: T[] = [];
    if (this.take(close)) return items;
    do items.push(item());
    while (this.take(','));
    this.expect(close);
    return items;
  }

  /**
   * Throws `bad-program` with the line and column, what was expected, and the token found there.
   */
  fail(expected: string, position: number = this.position): never {
    const rest = this.#text.slice(position).match(/^[\w.%-]+|^[^\s]/)?.[0];
    const found = rest === undefined ? 'the end' : JSON.stringify(rest.slice(0, 40));
    throw this.error(`expected ${expected}, found ${found}`, position);
  }

  error(problem: string, position: number, cause?: unknown): PodError {
    const before = this.#text.slice(0, position);
    const line = before.split('\n').length;
    const column = position - before.lastIndexOf('\n');
    return new PodError('bad-program', `line ${line}, column ${column}: ${problem}`, cause);
  }

  /** Skips white space and comments. */
  #skip(): void {
    const pattern = /(?:\s|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*/y;
    pattern.lastIndex = this.#at;
    this.#at += pattern.exec(this.#text)![0].length;
  }
}
