import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { Metrics } from '../../cluster/master/metrics.ts';
import { RunState } from '../../cluster/master/run-state.ts';
import type { ProcessPod } from '../../cluster/process/pod.ts';
import { type LogLevel, logEvent, logLevels } from '../../src/observe/log.ts';
import { logFields, statusFields } from '../../src/observe/log-fields.ts';
import type { RunFact } from '../../src/run/event.ts';
import { fact, facts } from '../run/facts.ts';

/** Returns the lines that a log of the given level has for an event. */
function linesOf(event: RunFact, level: LogLevel): Readonly<Record<string, unknown>>[] {
  const lines: Readonly<Record<string, unknown>>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line));
  logEvent(pino({ base: { job: 'pod', role: 'master' }, level }, { write }), event);
  return lines;
}

test('every field of the log line of an event has a meaning in the table', () => {
  const { pod: _, ...known } = facts;
  fc.assert(
    fc.property(fc.oneof(...Object.values(known)), (event) => {
      for (const line of linesOf(event, 'debug'))
        for (const field of Object.keys(line)) expect(logFields).toHaveProperty(field);
    }),
  );
});

test('every field that a program of a pod logs has a meaning in the table', () => {
  const files = readdirSync('cluster', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('simulated'))
    .map((name) => readFileSync(join('cluster', name), 'utf8'));
  const inCalls = files.flatMap((text) => [...text.matchAll(/log\('[\w-]+', \{([^{}]*)\}/gi)]);
  const fields = inCalls.flatMap(([, inBraces = '']) =>
    inBraces.split(',').map((it) => it.trim().split(/[:(]/)[0] ?? ''),
  );
  const unknown = fields.filter((it) => it !== '' && !Object.hasOwn(logFields, it));
  expect(inCalls.length).toBeGreaterThan(15);
  expect(unknown).toEqual([]);
});

test('every field of /status has a meaning in a table, and a name in only one of them', () => {
  const state = new RunState('pod', new Metrics(), { ready() {}, lost() {} }, false);
  const member = { tpu: 0, state: 'joined', pid: 1, host: null, hostname: null };
  const status = { phase: 'ready', generation: 1, spares: 0, tpus: [member] };
  state.gathering({ status: () => status, linkBytes: () => ({}) } as unknown as ProcessPod);
  const found = state.status() as Readonly<Record<string, unknown>>;
  expect(found).toMatchObject({ job: 'pod', phase: 'ready', tpus: 1, members: [member] });
  for (const field of Object.keys(found)) {
    expect([field, Object.hasOwn(logFields, field) !== Object.hasOwn(statusFields, field)]).toEqual(
      [field, true],
    );
  }
});

test('a log has the lines of its level and above, and the summary at every level', () => {
  const weights: Readonly<Record<LogLevel, number>> = { debug: 20, info: 30, warn: 40, error: 50 };
  fc.assert(
    fc.property(fact, fc.constantFrom(...logLevels), (event, level) => {
      const [whole] = linesOf(event, 'debug');
      const isThere = event.kind === 'finished' || Number(whole?.['level']) >= weights[level];
      expect(linesOf(event, level)).toHaveLength(isThere ? 1 : 0);
    }),
  );
});

test('only a log of the level debug has the times of every Cloud TPU', () => {
  fc.assert(
    fc.property(facts.step, (event) => {
      expect(linesOf(event, 'debug')[0]).toHaveProperty('tpuPhaseMs');
      const [line] = linesOf(event, 'info');
      expect(line).not.toHaveProperty('tpuPhaseMs');
      expect(line).toHaveProperty('longest');
    }),
  );
});
