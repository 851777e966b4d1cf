import { PodError } from '../../src/numerics/error.ts';

/**
 * The words of a line of flags such as the value of `POD_ARGS`: apart by white space, except within
 * 'single' or "double" quotes. Nothing is expanded and there are no escapes.
 *
 * @throws PodError `bad-flag` when a quote is left open.
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
  throw new PodError('bad-flag', `POD_ARGS: expected another ${open}, found the end`);
}
