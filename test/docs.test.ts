import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { limitsPage, withLimits } from '../scripts/limits-table.ts';
import { withReferenceTables } from '../scripts/reference-tables.ts';

const pages = ['README.md', ...readdirSync('docs').map((name) => join('docs', name))];

describe('the docs', () => {
  test('list the limits that the code has', () => {
    const page = readFileSync(limitsPage, 'utf8');
    expect(withLimits(page)).toBe(page);
  });

  test('list the log fields, the fields of /status and the metrics that the code has', () => {
    const page = readFileSync(limitsPage, 'utf8');
    expect(withReferenceTables(page)).toBe(page);
  });

  test.each(pages)('%s links only to pages and headings that exist', (page) => {
    const links = [...readFileSync(page, 'utf8').matchAll(/\]\(([^)\s]+)\)/g)].map(([, to]) => to);
    const broken = links.filter((link) => link !== undefined && !isFound(page, link));
    expect(broken).toEqual([]);
  });
});

function isFound(page: string, link: string): boolean {
  if (/^https?:/.test(link)) return true;
  const [path = '', heading] = link.split('#');
  const target = path === '' ? page : join(dirname(page), path);
  if (!existsSync(target)) return false;
  return heading === undefined || headingsOf(target).includes(heading);
}

/** Returns the anchor that GitHub gives to each heading of a page. */
function headingsOf(page: string): readonly string[] {
  const headings = readFileSync(page, 'utf8').matchAll(/^#+ (.+)$/gm);
  return [...headings].map(([, text = '']) =>
    text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} -]/gu, '')
      .replaceAll(' ', '-'),
  );
}
