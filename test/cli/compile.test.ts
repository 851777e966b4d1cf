import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { requireCompiled } from '../cluster/compiled.ts';
import { shell } from './run-pod.ts';

requireCompiled();
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-compile-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const program = `HloModule jit_f, entry_computation_layout={(f32[16]{0}, s64[4]{0})->f32[16]{0}}

ENTRY main {
  x = f32[16]{0} parameter(0)
  n = s64[4]{0} parameter(1)
  e = f32[16]{0} exponential(x)
  m = s64[4]{0} add(n, n)
  ROOT t = (f32[16]{0}, s64[4]{0}) tuple(e, m)
}
`;

describe('pod compile with a file of HLO text', () => {
  test('shows the passes, the memory, and what only plain code computes', async () => {
    const { code, stdout } = await compile(program);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^0 hlo .* what program\.hlo says$/m);
    expect(stdout).toMatch(/^2 instructions: 1 vpu, 1 plain$/m);
    expect(stdout).toMatch(/^ {2}1 × add: a value of s64\[4\]$/m);
  });

  test('prints the program after a pass', async () => {
    const { stdout } = await compile(program, '--print fusion');
    expect(stdout).toMatch(/^HloModule jit_f$/m);
    expect(stdout).toMatch(/fusion\(%parameter\.0\), kind=kLoop/);
  });

  test.each([
    [
      'text that is not HLO',
      program.replace('exponential', 'foo'),
      '',
      /program\.hlo: line 6, col/,
    ],
    ['a rule of HLO that is broken', program.replace('[4]{0} add', '[5]{0} add'), '', /s64\[4\]/],
    [
      'settings of a training step',
      program,
      '--model mlp',
      /--model with "program\.hlo": expected/,
    ],
  ])('refuses %s in one line', async (_, text, flags, reason) => {
    const { code, stdout, stderr } = await compile(text, flags);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^pod: [a-z-]+: [^\n]*\n$/);
    expect(stderr).toMatch(reason);
  });
});

function compile(text: string, flags = ''): ReturnType<typeof shell> {
  writeFileSync(join(folder, 'program.hlo'), text);
  return shell(`$pod compile program.hlo ${flags}`, { cwd: folder });
}
