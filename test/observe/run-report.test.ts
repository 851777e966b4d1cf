import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { reportPage } from '../../src/observe/report-page.ts';
import { reportLines } from '../../src/observe/report-text.ts';
import { runReport } from '../../src/observe/run-report.ts';
import { stepBins } from '../../src/observe/step-bins.ts';
import { timelineOf } from '../../src/observe/timeline.ts';
import type { RecordedRun } from '../../src/run/read.ts';
import { attributesIn, elements, parsePage, textOf, type XmlElement } from '../picture/xml.ts';
import { config, fact } from '../run/facts.ts';
import { note, recorded, settings, step, type Told } from './recorded.ts';

const ready = { kind: 'ready', elapsedMs: 100 } as const;
const interrupted: readonly Told[] = [
  [1000, ready],
  [1020, step(1, 15)],
  [1040, note('lost', 3)],
  [1060, note('replaced', 3)],
  [1071, note('resumed')],
  [1080, step(2, 44)],
];
const judged: NonNullable<RecordedRun['judged']> = {
  ...{ v: 1, ground: 'threads', outcome: 'done', message: '' },
  verdicts: [
    { expectation: 'weights: bit-identical', holds: true, found: 'abc' },
    { expectation: 'goodput: >=0.9', holds: false, found: '12.0 %' },
  ],
  faults: [
    {
      ...{
        index: 0,
        fault: { fault: 'kill', tpu: 3, at: { step: 2, phase: 'all-gather', hop: 1 } },
      },
      ...{ injectedMs: 1039, detectionMs: 1, recoveryMs: 41, blamed: 3 },
    },
    {
      ...{ index: 1, fault: { fault: 'hang', tpu: 2, at: { step: 6 } }, blamed: undefined },
      ...{ injectedMs: undefined, detectionMs: undefined, recoveryMs: undefined },
    },
  ],
};

function pageOf(run: RecordedRun, name = 'folder'): XmlElement {
  return parsePage(reportPage(runReport(name, run, 'pod train')));
}

/** Returns the texts of all hints (`title` elements) in the picture with the given id. */
function hintsOf(page: XmlElement, id: string): readonly string[] {
  const picture = elements(page, 'svg').find(({ attributes }) =>
    attributes['aria-labelledby']?.startsWith(`${id}-`),
  );
  return picture === undefined ? [] : elements(picture, 'title').map(textOf);
}

describe('the report of a run', () => {
  test('has a row for each Cloud TPU, the faults, the verdict and what happened', () => {
    const run = { ...recorded(interrupted), judged };
    const lines = reportLines(runReport('folder', run, 'pod again'), 80);
    const text = lines.join('\n');
    expect(lines[0]).toBe(
      'mlp on digits, 4 Cloud TPUs (2x2), seed 0, a fault plan on the ground threads',
    );
    expect(text).toMatch(/^outcome {2,}done$/m);
    expect(text).toMatch(/^committed steps {2,}2 of 6; a step ran again once$/m);
    expect(text).toMatch(/^faults noticed after {2,}1\.0 ms \(1\)$/m);
    expect(text).toMatch(
      /^kill of Cloud TPU 3 +step 2, all-gather, hop 1 +yes +1\.0 ms +41\.0 ms +Cloud TPU 3$/m,
    );
    expect(text).toMatch(/^hang of Cloud TPU 2 +step 6 +never +- +- +-$/m);
    expect(text).toContain('BROKEN  goodput: >=0.9: 12.0 %');
    const rows = lines.filter((line) => /^(slice|TPU \d) +\|.*\|$/.test(line));
    expect(rows.map((row) => row.length)).toEqual([80, 80, 80, 80, 80]);
    expect(rows[4]).toMatch(/F.*\.+R.*=/);
    expect(rows[0]).toMatch(/-+.*~+=+/);
    expect(text).toMatch(/40\.0 ms +lost +Cloud TPU 3, step 3 +why/);
    expect(lines.at(-1)).toBe('  pod again');
  });

  test('is one page with a row for each Cloud TPU, each fault, and phases of steps', () => {
    const page = pageOf({ ...recorded(interrupted), judged });
    const labels = elements(page, 'text').map(textOf);
    for (let tpu = 0; tpu < 4; tpu++) expect(labels).toContain(`Cloud TPU ${tpu}`);
    const hints = hintsOf(page, 'timeline');
    expect(hints).toContain('39.0 ms: fault, Cloud TPU 3: kill: step 2, all-gather, hop 1');
    expect(hints).toContain('recovery: next commit after 40.0 ms');
    expect(hints.filter((it) => it.startsWith('step 2: 44.0 ms, ran 2 times'))).toHaveLength(2);
    expect(hintsOf(page, 'phases-0')).toContain('Cloud TPU 3, compute: 8.0 ms');
    const cells = elements(page, 'td').map(textOf);
    for (const it of ['kill of Cloud TPU 3', 'hang of Cloud TPU 2', 'BROKEN', 'holds']) {
      expect(cells).toContain(it);
    }
    const links = elements(page, 'a').map(({ attributes }) => attributes['href']?.slice(1));
    const places = elements(page, 'tr').map(({ attributes }) => attributes['id']);
    expect(links.length).toBeGreaterThan(0);
    for (const link of links) expect(places).toContain(link);
    const ids = JSON.stringify(page).match(/"id":"[^"]*"/g) ?? [];
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('has no script, loads nothing, and forbids both', () => {
    const page = pageOf({ ...recorded(interrupted), judged });
    for (const name of ['script', 'img', 'link', 'iframe', 'object', 'image', 'use']) {
      expect(elements(page, name)).toEqual([]);
    }
    const [policy] = elements(page, 'meta').filter((it) => it.attributes['http-equiv']);
    expect(policy?.attributes['content']).toBe("default-src 'none'; style-src 'unsafe-inline'");
    expect(JSON.stringify(page)).not.toMatch(/"on\w+":|javascript:|@import|url\((?!#)/);
  });

  test('is well-formed, without numbers that are none and within bounds, whatever a record says', () => {
    const time = fc.double({ noNaN: true, noDefaultInfinity: true });
    const masters = fc.array(fc.array(fc.tuple(time, fact), { maxLength: 8 }), { maxLength: 3 });
    fc.assert(
      fc.property(masters, config, fc.string({ unit: 'binary' }), (all, found, name) => {
        const report = runReport(
          name,
          { ...recorded(...all), settings: { ...settings, config: found } },
          '',
        );
        const page = parsePage(reportPage(report));
        const drawn = elements(page, 'svg').map((it) => JSON.stringify(drawnIn(it)));
        expect(drawn.join()).not.toMatch(/NaN|Infinity|undefined/);
        expect(reportLines(report, 80).length).toBeLessThan(400);
      }),
      { numRuns: 60 },
    );
  });

  test('shows the first Cloud TPUs of a huge slice, and those that something happened to', () => {
    const huge = { ...settings.config, topology: { columns: 65_536, rows: 65_536 } };
    const run = {
      ...recorded([
        [0, ready],
        [5, note('lost', 4_000_000)],
      ]),
      settings: { ...settings, config: huge },
    };
    const labels = elements(pageOf(run), 'text').map(textOf);
    expect(labels).toContain('Cloud TPU 4000000');
    expect(labels.filter((it) => it.startsWith('Cloud TPU '))).toHaveLength(64);
  });
});

describe('many steps', () => {
  const many = recorded([
    [0, ready],
    ...Array.from({ length: 20_000 }, (_, i): Told => [10 * (i + 1), step(i + 1, 10)]),
  ]);

  test('are put into bins that keep every step, and a step that ran again on its own', () => {
    const { steps } = timelineOf(many);
    const again = steps.map((it, i) => (i % 1999 === 1000 ? { ...it, isRepeated: true } : it));
    for (const most of [1, 7, 400, 50_000]) {
      const bins = stepBins(again, most);
      expect(bins.flatMap((bin) => bin.steps)).toEqual(again);
      expect(bins.length).toBeLessThanOrEqual(Math.max(most, 21) + 1);
    }
    const alone = stepBins(again, 400).filter(({ isRepeated }) => isRepeated);
    expect(alone.map((bin) => bin.steps.length)).toEqual(Array.from({ length: 10 }, () => 1));
  });

  test('make a page of less than 2 MB', () => {
    const page = reportPage(runReport('folder', many, ''));
    expect(page.length).toBeLessThan(2e6);
    expect(page).toContain('steps 1 to 50');
  });
});

/** Returns the attributes of an element and of all elements in it, except `aria-label`. */
function drawnIn(root: XmlElement): readonly unknown[] {
  return attributesIn(root).map(({ 'aria-label': _, ...drawn }) => drawn);
}
