import { assert } from '../src/numerics/assert.ts';

/** Head and rows of a table. */
export type Table = readonly [head: readonly string[], rows: readonly (readonly string[])[]];

/**
 * Returns a copy of the text `page` in which the table replaces the text between the markers
 * `<!-- name -->` and `<!-- /name -->`.
 */
export function withTable(page: string, name: string, [head, rows]: Table): string {
  const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  assert(from >= 0 && to > from, `the page has no markers for the table ${name}`);
  const lines = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`);
  return `${page.slice(0, from + begin.length)}${lines.join('')}${page.slice(to)}`;
}
