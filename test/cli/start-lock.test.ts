import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeFolder, readPodFile, writePodFile } from '../../src/cli/pod-file.ts';
import { untilStarted, whileStarting } from '../../src/cli/start-lock.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-start-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('a pod is started by one process at a time', () => {
  test('a second one is refused while the first is at it, and not after it', () => {
    whileStarting(folder, () => {
      expect(() => whileStarting(folder, () => 0)).toThrow(/pid \d+\) is starting a pod there/);
    });
    expect(whileStarting(folder, () => 7)).toBe(7);
    expect(existsSync(join(folder, 'starting'))).toBe(false);
  });

  test('one that failed, or was killed at it, leaves it free', async () => {
    const fail = (): never => {
      throw new Error('no');
    };
    expect(() => whileStarting(folder, fail)).toThrow('no');
    for (const owner of ['2147483647\n', '', 'nobody', '-1', '0']) {
      writeFileSync(join(folder, 'starting'), owner);
      await untilStarted(folder);
      expect(whileStarting(folder, () => 7)).toBe(7);
    }
  });
});

describe('what is known of a pod', () => {
  const pod = { apiPort: 1, controlPort: 2, tpus: 2, args: '--seed 1', serve: false };

  test('is read as it was written, and said to be damaged when it is', () => {
    expect(readPodFile(folder)).toBeUndefined();
    writePodFile(folder, pod);
    expect(readPodFile(folder)).toEqual(pod);
    for (const text of ['', '{"apiPort":', '[]', '{"apiPort":"x"}']) {
      writeFileSync(join(folder, 'pod.json'), text);
      expect(() => readPodFile(folder)).toThrow(/pod\.json: it is damaged: .*; pod down/);
    }
  });

  test('is in a folder, which is made where there is none', () => {
    const deep = join(folder, 'a', 'b');
    makeFolder(deep);
    makeFolder(deep);
    writePodFile(deep, pod);
    expect(() => makeFolder(join(deep, 'pod.json'))).toThrow(/expected a folder, found a file/);
  });
});
