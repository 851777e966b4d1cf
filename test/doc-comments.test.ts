import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const exported =
  /^export (?:async |abstract )?(?:function\*?|const|interface|type|class|enum) (\w+)/;

test('at least 90 % of the exports of src have a doc comment', () => {
  const bare: string[] = [];
  let count = 0;
  for (const file of readdirSync('src', { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts') || file.includes('kernels')) continue;
    const lines = readFileSync(join('src', file), 'utf8').split('\n');
    for (const [i, line] of lines.entries()) {
      const name = exported.exec(line)?.[1];
      if (name === undefined) continue;
      count++;
      const before = lines.slice(0, i).findLast((it) => !it.startsWith('// biome-ignore'));
      if (before?.trim().endsWith('*/') !== true) bare.push(`${file}: ${name}`);
    }
  }
  expect(count).toBeGreaterThan(900);
  expect(bare.length / count, bare.join('\n')).toBeLessThan(0.1);
});
