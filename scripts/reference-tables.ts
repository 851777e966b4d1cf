import { Metrics } from '../cluster/master/metrics.ts';
import { logFields, statusFields } from '../src/observe/log-fields.ts';
import { type Table, withTable } from './doc-table.ts';

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

function fieldRows(fields: Readonly<Record<string, string>>): readonly (readonly string[])[] {
  return Object.entries(fields).map(([field, meaning]) => [`\`${field}\``, meaning]);
}
