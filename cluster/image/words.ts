import { PodError } from '../../src/numerics/error.ts';

/**
 * Splits a line of flags, such as the value of `POD_ARGS`, into words at white space. White space
 * within 'single' or "double" quotes does not split. There are no escapes, and nothing is expanded.
 *
 * @throws PodError `bad-flag` if a quote is not closed.
 */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  for (const [word] of line.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"]|['"][\s\S]*$)+/g)) {
    words.push(word.replace(/'([^']*)'|"([^"]*)"|(['"])/g, unquote));
  }
  return words;
}

function unquote(_: string, single?: string, double?: string, open?: string): string {
  if (open === undefined) return single ?? double ?? '';
  throw new PodError('bad-flag', `POD_ARGS: expected a closing ${open}, found the end of the text`);
}
