import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isShown, LogOutput, levelOf } from '../../../cluster/worker/log-output.ts';
import type { LogLevel } from '../../../src/observe/log.ts';

/** Returns a disk with room for `room` bytes. A write to the full disk throws ENOSPC. */
function disk(room: number) {
  let text = '';
  return {
    get lines(): string[] {
      return text.split('\n').slice(0, -1);
    },
    grow(by: number): void {
      room += by;
    },
    write(bytes: Uint8Array): number {
      const count = Math.min(room, bytes.length);
      if (count === 0) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      room -= count;
      text += Buffer.from(bytes.subarray(0, count)).toString();
      return count;
    },
  };
}

describe('the output of a log', () => {
  test('writes a line of limited length without control characters', () => {
    const obeyed = ['\u001b', '\u007f', '\u009b', '\u202e', '\u2066', '\n', '"', '\\', 'a'];
    const text = fc.string({ unit: fc.constantFrom(...obeyed), maxLength: 60 });
    fc.assert(
      fc.property(fc.dictionary(text, fc.oneof(text, fc.integer())), (fields) => {
        const room = disk(1e6);
        new LogOutput({ writeBytes: (bytes) => room.write(bytes) }).write(
          `${JSON.stringify(fields)}\n`,
        );
        expect(JSON.parse(room.lines.join('\n'))).toEqual(JSON.parse(JSON.stringify(fields)));
        expect(room.lines.join('\n')).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
      }),
    );
    const room = disk(1e7);
    const links = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`link ${i}`, i]));
    const line = { level: 50, links, msg: 'x'.repeat(1e6) };
    new LogOutput({ writeBytes: (bytes) => room.write(bytes) }).write(`${JSON.stringify(line)}\n`);
    expect(JSON.parse(room.lines[0] ?? '')).toEqual({
      ...line,
      msg: expect.stringMatching(/^x+…x+$/),
    });
    expect(room.lines[0]?.length).toBeLessThan(50_000);
  });

  test('in text format is readable, and reports lost lines as well', () => {
    const room = disk(0);
    const output = new LogOutput({ writeBytes: (bytes) => room.write(bytes), format: 'text' });
    const line = { level: 30, time: 3000, role: 'worker', tpu: 2, msg: 'welcome' };
    output.write(`${JSON.stringify(line)}\n`);
    room.grow(1000);
    output.write(`${JSON.stringify({ ...line, level: 50, msg: 'the disk\u001b[2J' })}\n`);
    expect(room.lines).toEqual([
      expect.stringMatching(/^\d\d:\d\d:\d\dZ {2}warning: log-lines-lost \(count 1\)$/),
      '00:00:03Z  error: Cloud TPU 2: the disk\\u001b[2J',
    ]);
  });

  test('drops lines on a full disk and reports their number when there is room again', () => {
    const full = disk(12);
    const output = new LogOutput({ writeBytes: (bytes) => full.write(bytes) });
    for (const line of ['one', 'two', 'three', 'four', 'five']) output.write(`{"${line}":1}\n`);
    expect(output.lost).toBe(4);
    full.grow(1000);
    output.write('{"six":1}\n');
    expect(output.lost).toBe(0);
    const [one, cut, lost, six] = full.lines;
    expect([one, cut, six]).toEqual(['{"one":1}', '{"', '{"six":1}']);
    expect(JSON.parse(lost ?? '')).toMatchObject({ count: 4, msg: 'log-lines-lost' });
    expect(full.lines).toHaveLength(4);
  });

  test('loses nothing if its reader is slow for a while', () => {
    let busy = 3;
    let text = '';
    const output = new LogOutput({
      writeBytes(bytes) {
        if (busy-- > 0) throw Object.assign(new Error('not now'), { code: 'EAGAIN' });
        text += Buffer.from(bytes).toString();
        return bytes.length;
      },
    });
    output.write('{"one":1}\n');
    expect(text).toBe('{"one":1}\n');
    expect(output.lost).toBe(0);
  });

  test('waits only once for a reader that stalls, and reports the first loss', () => {
    let tries = 0;
    const told: string[] = [];
    const output = new LogOutput({
      writeBytes() {
        tries++;
        throw Object.assign(new Error('not now'), { code: 'EAGAIN' });
      },
      onLoss: (why) => told.push(why),
    });
    output.write('{"one":1}\n');
    const first = tries;
    output.write('{"two":2}\n');
    output.write('{"three":3}\n');
    expect(tries - first).toBe(2);
    expect(output.lostInAll).toBe(3);
    expect(told).toEqual(['nobody reads the pipe']);
  });
});

test('a level shows lines of its level and above, and the summary of a run', () => {
  const shown = (level: LogLevel) =>
    [10, 20, 30, 40, 50, 60].filter((it) => isShown({ level: it, msg: 'x' }, level));
  expect(shown('debug')).toEqual([20, 30, 40, 50, 60]);
  expect(shown('info')).toEqual([30, 40, 50, 60]);
  expect(shown('warn')).toEqual([40, 50, 60]);
  expect(shown('error')).toEqual([50, 60]);
  expect(isShown({ level: 30, msg: 'summary' }, 'error')).toBe(true);
});

test('POD_LOG_LEVEL names the level; without it, or with an unknown level, the level is info', () => {
  const levels = ['debug', ' warn ', 'loud', undefined].map((it) => levelOf({ POD_LOG_LEVEL: it }));
  expect(levels).toEqual(['debug', 'warn', 'info', 'info']);
});
