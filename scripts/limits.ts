/**
 * Writes the table of limits in docs/REFERENCE.md from the constants of the code.
 *
 *   npm run compile && node dist/scripts/limits.js
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { script } from './command.ts';
import { limitsPage, withLimits } from './limits-table.ts';

script('limits', 'write the table of limits into docs/REFERENCE.md', '').parse();
const before = readFileSync(limitsPage, 'utf8');
const after = withLimits(before);
if (after !== before) writeFileSync(limitsPage, after);
process.stdout.write(`${limitsPage}: ${after === before ? 'unchanged' : 'written'}\n`);
