import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { reportPage } from '../../src/observe/report-page.ts';
import { reportLines } from '../../src/observe/report-text.ts';
import { runReport } from '../../src/observe/run-report.ts';
import { stepBins } from '../../src/observe/step-bins.ts';
import { stragglerPeriods } from '../../src/observe/straggler-periods.ts';
import { timelineOf } from '../../src/observe/timeline.ts';
import type { RunFact } from '../../src/run/event.ts';
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
  ...{ v: 1, ground: 'threads', outcome: 'done', message: '', events: interrupted.length },
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
    expect(text).toMatch(/^goodput {2,}\d+\.\d+ % of the training time$/m);
    expect(text).toMatch(/^faults noticed after {2,}1\.0 ms \(1\)$/m);
    expect(text).toMatch(/^recovery time {2,}41\.0 ms \(1\)$/m);
    expect(text).toMatch(/^from report to commit {2,}40\.0 ms \(1\)$/m);
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
    expect(hints).toContain('recovery: next commit 40.0 ms after the report');
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

  test('names a straggler without a recovery time, because nothing is mended', () => {
    const fault = { fault: 'slow', tpu: 1, factor: 3, at: { step: 1 } } as const;
    const times = { injectedMs: 1010, detectionMs: 60, recoveryMs: 70, blamed: 1 };
    const faults = [...judged.faults, { index: 2, fault, ...times }];
    const report = runReport(
      'folder',
      { ...recorded(interrupted), judged: { ...judged, faults } },
      '',
    );
    const text = reportLines(report, 80).join('\n');
    expect(text).toMatch(/^slow of Cloud TPU 1 .* yes +60\.0 ms +- +Cloud TPU 1$/m);
    expect(report.figures.recovery).toEqual({ count: 1, never: 0, p50: 41, max: 41 });
  });

  test('says that a record ends before its run, also if a verdict or an earlier master has an end', () => {
    const failed: Told = [1090, { kind: 'failed', code: null, message: 'no room' }];
    const cut = 'the run may still go on, or was killed, or the file was cut';
    const none = 'the run may not have begun, or was killed, or the file was cut';
    for (const [run, where] of [
      [recorded(interrupted), `the record ends after event 5: ${cut}`],
      [recorded(interrupted.slice(0, 2)), `the record ends after event 1: ${cut}`],
      [
        recorded([...interrupted, failed], interrupted),
        `the record ends after event 5 of master 1: ${cut}`,
      ],
      [recorded(), `the record has no events: ${none}`],
    ] as const) {
      const shown = { ...run, judged: { ...judged, events: 9 } };
      const report = runReport('folder', shown, '');
      expect(report.figures).toMatchObject({ outcome: 'unknown', why: where });
      expect(reportLines(report, 80).join('\n')).toMatch(
        `\noutcome                 unknown: ${where}\n`,
      );
      expect(elements(pageOf(shown), 'td').map(textOf)).toContain(`unknown: ${where}`);
    }
  });

  test('has each table and chart in a box that scrolls, also by keys', () => {
    const page = pageOf({ ...recorded(interrupted), judged });
    const isLarge = ({ name, attributes }: XmlElement): boolean => {
      return name === 'table' || (name === 'svg' && attributes['class'] === 'picture');
    };
    const boxes = elements(page, 'div').filter((it) =>
      /^(scroll|wide)$/.test(it.attributes['class'] ?? ''),
    );
    const boxed = boxes
      .flatMap(({ children }) => children)
      .filter((it) => typeof it === 'object' && isLarge(it));
    const all = [...elements(page, 'table'), ...elements(page, 'svg')].filter(isLarge);
    expect(boxed).toHaveLength(all.length);
    for (const { attributes } of boxes)
      expect(attributes).toMatchObject({ tabindex: '0', role: 'region' });
  });

  test('marks a straggler for as long as it is the slowest, also after its report', () => {
    const names = (tpu: number, index: number): Told => [
      1000 + 20 * index,
      { ...step(index, 20), slowest: { tpu, ownMs: 40, othersMs: 10 } } as RunFact,
    ];
    const report: RunFact = {
      ...{ kind: 'straggler', step: 4, inARow: 3, tpu: 1, ownMs: 40, othersMs: 10 },
    };
    const run = recorded([
      [1000, ready],
      ...[0, 1, 1, 1].map((tpu, i) => names(tpu, i + 1)),
      [1081, report],
      names(1, 5),
      [1101, report],
      ...[1, 3, 1, 1, 1].map((tpu, i) => names(tpu, i + 6)),
      [1201, report],
    ]);
    const periods = stragglerPeriods(timelineOf(run));
    expect(periods.map(({ tpu, from, to }) => [tpu, from, to])).toEqual([
      [1, 20, 120],
      [1, 140, 201],
    ]);
    const text = 'the slowest in 3 steps: 40.0 ms of own work, the others 10.0 ms';
    expect(hintsOf(pageOf(run), 'timeline').filter((it) => it === text)).toHaveLength(2);
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
