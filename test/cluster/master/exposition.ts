/** A family of metrics in the text format of Prometheus: all samples of one metric. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: readonly Sample[];
}

/** A sample: name, labels in order, and value. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const types = ['counter', 'gauge', 'histogram'];

/**
 * Reads metrics in the text format of Prometheus (version 0.0.4). Stricter than the format: each
 * family has a HELP line, then a TYPE line, then all of its samples.
 *
 * @throws Error that quotes the first wrong line.
 */
export function parseExposition(text: string): Family[] {
  if (!text.endsWith('\n')) throw new Error('the last line has no newline');
  const families: { name: string; help: string; type: string; samples: Sample[] }[] = [];
  for (const line of text.slice(0, -1).split('\n')) {
    const last = families.at(-1);
    const [, comment, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (comment === 'HELP') {
      if (families.some((it) => it.name === name)) throw new Error(`a second family: ${line}`);
      families.push({ name, help: rest, type: '', samples: [] });
    } else if (comment === 'TYPE') {
      if (last?.name !== name || last.type !== '') throw new Error(`TYPE without HELP: ${line}`);
      if (!types.includes(rest)) throw new Error(`unknown type: ${line}`);
      last.type = rest;
    } else if (line !== '') {
      const sample = parseSample(line);
      if (last === undefined || last.type === '' || !belongs(sample.name, last))
        throw new Error(`a sample outside of its family: ${line}`);
      last.samples.push(sample);
    }
  }
  const open = families.find(({ type }) => type === '');
  if (open !== undefined) throw new Error(`HELP without TYPE: ${open.name}`);
  return families;
}

function belongs(sample: string, { name, type }: Pick<Family, 'name' | 'type'>): boolean {
  if (type !== 'histogram') return sample === name;
  return ['_bucket', '_sum', '_count'].some((suffix) => sample === `${name}${suffix}`);
}

function parseSample(line: string): Sample {
  const [, name = '', inBraces = '', value = ''] =
    /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
  if (name === '') throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = inBraces;
  while (rest !== '') {
    const [all = '', label = '', text = ''] =
      /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/.exec(rest) ?? [];
    if (all === '' || label in labels) throw new Error(`wrong labels: ${line}`);
    labels[label] = text;
    rest = rest.slice(all.length);
  }
  return { name, labels, value: numberOf(value, line) };
}

function numberOf(text: string, line: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)) throw new Error(`no number: ${line}`);
  return Number(text);
}

/** Units that are not base units of Prometheus, and their abbreviations. */
const otherUnits =
  /_(ms|us|ns|millis|milliseconds|microseconds|minutes|hours|days|kb|mb|kib|mib|bits|percent)(_|$)/;

/** Returns what `promtool check metrics` reports: one line for each problem. */
export function problemsOf(families: readonly Family[]): string[] {
  return families.flatMap((family) =>
    [...namingProblems(family), ...seriesProblems(family), ...histogramProblems(family)].map(
      (problem) => `${family.name}: ${problem}`,
    ),
  );
}

function namingProblems({ name, help, type }: Family): string[] {
  const isTotal = name.endsWith('_total');
  return [
    ...(help.trim() === '' ? ['no help text'] : []),
    ...(type === 'counter' && !isTotal ? ['a counter must end in _total'] : []),
    ...(type !== 'counter' && isTotal ? ['only a counter may end in _total'] : []),
    ...(/_(sum|count|bucket)$/.test(name) ? ['the end of the name is reserved'] : []),
    ...(/[A-Z:]/.test(name) ? ['capital letter or colon in the name'] : []),
    ...(otherUnits.test(name) ? ['not a base unit'] : []),
    ...(/_(counter|gauge|histogram|summary)(_|$)/.test(name) ? ['the type is in the name'] : []),
  ];
}

function seriesProblems({ type, samples }: Family): string[] {
  const keys = samples.map(keyOf);
  const labels = samples.flatMap((it) => Object.keys(it.labels));
  return [
    ...(new Set(keys).size === keys.length ? [] : ['a series occurs twice']),
    ...(labels.some((it) => it.startsWith('__')) ? ['a label begins with __'] : []),
    ...(type !== 'histogram' && labels.includes('le') ? ['le outside of a histogram'] : []),
    ...(labels.some((it) => /[A-Z]/.test(it)) ? ['capital letter in a label'] : []),
    ...(type === 'counter' && samples.some((it) => it.value < 0) ? ['a negative counter'] : []),
  ];
}

function histogramProblems({ name, type, samples }: Family): string[] {
  if (type !== 'histogram') return [];
  const bySeries = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels;
    const key = keyOf({ name, labels });
    bySeries.set(key, [...(bySeries.get(key) ?? []), sample]);
  }
  return [...bySeries].flatMap(([series, all]) => {
    const buckets = all.filter((it) => it.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => numberOf(labels['le'] ?? '', series));
    const counts = buckets.map(({ value }) => value);
    const count = all.find((it) => it.name === `${name}_count`)?.value;
    return [
      ...(bounds.at(-1) === Number.POSITIVE_INFINITY ? [] : [`${series}: no bucket +Inf`]),
      ...(isRising(bounds) && new Set(bounds).size === bounds.length ? [] : [`${series}: bounds`]),
      ...(isRising(counts) ? [] : [`${series}: the buckets are not cumulative`]),
      ...(counts.at(-1) === count ? [] : [`${series}: bucket +Inf differs from _count`]),
      ...(all.some((it) => it.name === `${name}_sum`) ? [] : [`${series}: no _sum`]),
    ];
  });
}

function isRising(values: readonly number[]): boolean {
  return values.every((value, i) => i === 0 || value >= (values[i - 1] ?? 0));
}

/** Returns a text that identifies a series: the name and the sorted labels. */
export function keyOf({ name, labels }: Pick<Sample, 'name' | 'labels'>): string {
  return `${name}${JSON.stringify(Object.entries(labels).sort())}`;
}
