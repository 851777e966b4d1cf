import { CST, Lexer, Parser } from 'yaml';
import { type NoFile, readRegularFile } from './read.ts';

/** Text of a YAML file, or what was found instead of such a file. */
export type YamlText =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'not-text'; readonly found: string; readonly cause: unknown }
  | NoFile;

/** Reads a YAML file of at most `bytesMax` bytes. Refuses pipes and devices without a wait. */
export function readYamlText(path: string, bytesMax: number): YamlText {
  const contents = readRegularFile(path, bytesMax);
  if (contents.kind !== 'contents') return contents;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(contents.bytes);
    return { kind: 'text', text };
  } catch (cause) {
    return { kind: 'not-text', found: 'bytes that are not UTF-8 text', cause };
  }
}

/**
 * Deepest accepted nesting of YAML values. The YAML parser is recursive, so very deep nesting would
 * overflow the stack. The files that this program reads need little nesting.
 */
const depthMax = 20;

/**
 * Scans a YAML text token by token, without recursion. If the text is nested too deep or has more
 * than `tokensMax` tokens, returns a phrase that says so, otherwise undefined. Comments and white
 * space do not count as tokens. This scan must come before the YAML parser, because the parser
 * overflows the stack on deep nesting and takes seconds for a text with thousands of mistakes.
 */
export function excessIn(text: string, tokensMax: number): string | undefined {
  const parser = new Parser();
  let count = 0;
  for (const token of new Lexer().lex(text)) {
    for (const _ of parser.next(token));
    if (parser.stack.length > depthMax) return `values nested more than ${depthMax} deep`;
    const type = CST.tokenType(token);
    if (type !== 'comment' && type !== 'newline' && type !== 'space') count++;
    if (count > tokensMax) return `more than ${tokensMax} tokens of YAML`;
  }
  return undefined;
}
