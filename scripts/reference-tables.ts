import { Metrics } from '../cluster/master/metrics.ts';
import { assert } from '../src/numerics/assert.ts';
import { logFields, statusFields } from '../src/observe/log-fields.ts';

/**
 * Returns a copy of the text `page` with three tables made anew from the code: log fields, fields
 * of `/status`, and metrics.
 */
export function withReferenceTables(page: string): string {
  const metrics = new Metrics();
  metrics.addQueue(() => []);
  const rows = metrics
    .families()
    .map(({ name, type, labels, help }) => [`\`${name}\``, type, labels.join(', '), help]);
  const tables: readonly (readonly [name: string, table: Table])[] = [
    ['log-fields', [['field', 'meaning'], fieldRows(logFields)]],
    ['status-fields', [['field', 'meaning'], fieldRows(statusFields)]],
    ['metrics', [['metric', 'type', 'labels', 'meaning'], rows]],
  ];
  return tables.reduce((text, [name, table]) => withTable(text, name, table), page);
}

/** Head and rows of a table. */
type Table = readonly [head: readonly string[], rows: readonly (readonly string[])[]];

function fieldRows(fields: Readonly<Record<string, string>>): readonly (readonly string[])[] {
  return Object.entries(fields).map(([field, meaning]) => [`\`${field}\``, meaning]);
}

/** Replaces the text between the markers `<!-- name -->` and `<!-- /name -->` by a table. */
function withTable(page: string, name: string, [head, rows]: Table): string {
  const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  assert(from >= 0 && to > from, `the page has no markers for the table ${name}`);
  const lines = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`);
  return `${page.slice(0, from + begin.length)}${lines.join('')}${page.slice(to)}`;
}
