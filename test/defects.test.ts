import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { defects } from '../scripts/defects/list.ts';
import { searchDefects } from '../scripts/defects/search.ts';

test.each(defects)('the planted defect "$name" matches the source and names a test', (defect) => {
  const { file, from, test: testFile, title } = defect;
  expect(readFileSync(file, 'utf8').split(from)).toHaveLength(2);
  expect(readFileSync(testFile, 'utf8')).toContain(title.split(' ').at(-1) ?? '');
});

test.each(searchDefects)('the defect for the search "$name" matches the source', (defect) => {
  const { file, from } = defect;
  expect(readFileSync(file, 'utf8').split(from)).toHaveLength(2);
});
