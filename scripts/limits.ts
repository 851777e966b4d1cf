/**
 * Writes the tables in docs/REFERENCE.md from the code: limits, fields of log lines and of `/status`,
 * and metrics.
 *
 *   npm run compile && node dist/scripts/limits.js
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { script } from './command.ts';
import { limitsPage, withLimits } from './limits-table.ts';
import { withReferenceTables } from './reference-tables.ts';

script('limits', 'write the tables of docs/REFERENCE.md from the code', '').parse();
const before = readFileSync(limitsPage, 'utf8');
const after = withReferenceTables(withLimits(before));
if (after !== before) writeFileSync(limitsPage, after);
process.stdout.write(`${limitsPage}: ${after === before ? 'unchanged' : 'written'}\n`);
