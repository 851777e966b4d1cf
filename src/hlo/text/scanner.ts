import { PodError } from '../../numerics/error.ts';

/**
 * Scanner of a text. It has a position, which moves forward past each token that the parser reads.
 */
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
   * Matches the given pattern, a sticky regular expression, at the current position. Returns the
   * matching text and moves past it, or returns undefined if the pattern does not match.
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

  /** If `text` comes next, moves past it and returns true; otherwise returns false. */
  take(text: string): boolean {
    const found = this.#text.startsWith(text, this.position);
    if (found) this.#at += text.length;
    return found;
  }

  expect(text: string): void {
    if (!this.take(text)) this.fail(JSON.stringify(text));
  }

  /**
   * Reads a list: `open`, items separated by commas, `close`. The function `item` reads one item.
   */
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
   * Throws `bad-program`. The message has the line and column of `position`, the expected text, and
   * the token that was found there.
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
