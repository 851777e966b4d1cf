import { describe, expect, test } from 'vitest';
import { LogOutput } from '../../../cluster/worker/log-output.ts';

/** A disk with room for so many bytes. */
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
  test('on a full disk lines are left out, and told of when there is room again', () => {
    const full = disk(12);
    const output = new LogOutput((bytes) => full.write(bytes));
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

  test('a reader that is slow for a while loses nothing', () => {
    let busy = 3;
    let text = '';
    const output = new LogOutput((bytes) => {
      if (busy-- > 0) throw Object.assign(new Error('not now'), { code: 'EAGAIN' });
      text += Buffer.from(bytes).toString();
      return bytes.length;
    });
    output.write('{"one":1}\n');
    expect(text).toBe('{"one":1}\n');
    expect(output.lost).toBe(0);
  });
});
