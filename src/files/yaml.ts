import { CST, Lexer, Parser, type YAMLError } from 'yaml';

/** Describes, for a message, a problem that the YAML parser found in a text. */
export function yamlTrouble({ code, message }: Partial<YAMLError>): string {
  if (code === 'MULTIPLE_DOCS') {
    return 'expected one YAML document, found several, separated by ---';
  }
  // The message goes on with the lines of the text. Its first line ends with a colon.
  const [line = ''] = (message ?? '').split('\n', 1);
  return `expected YAML, found: ${line.replace(/:$/, '')}`;
}

/**
 * Largest accepted depth of nested YAML values. The YAML parser is recursive, so very deep nesting
 * would overflow its stack. The files that this program reads need little nesting.
 */
const depthMax = 20;

/**
 * Checks a YAML text before the YAML parser reads it. Without this check, the YAML parser could
 * overflow its stack on deep nesting, or take seconds for a text with thousands of mistakes. If the
 * text is nested too deep or has more than `tokensMax` tokens, returns a phrase that says so;
 * otherwise returns undefined. Comments and white space do not count as tokens. The check goes from
 * token to token without recursion.
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
