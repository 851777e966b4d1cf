import { expect, test } from 'vitest';
import { isFinal, isOfEndedWorkers } from '../../cluster/final.ts';
import { type ErrorCode, errorCodes, PodError } from '../../src/numerics/error.ts';

test('only errors about lost workers can come from the end of workers', () => {
  const codes = Object.keys(errorCodes) as ErrorCode[];
  const found = codes.filter((code) => isOfEndedWorkers(new PodError(code, 'why')));
  expect(found).toEqual(['worker-threw', 'worker-exited', 'worker-silent', 'link-timeout']);
  expect(isOfEndedWorkers(new Error('worker-exited'))).toBe(false);
});

test('errors that may go away, and crashes, do not fail a run for good', () => {
  const codes = Object.keys(errorCodes) as ErrorCode[];
  const found = codes.filter((code) => !isFinal(new PodError(code, 'why')));
  expect(found).toEqual(['in-use', 'superseded', 'io']);
  expect(isFinal(new Error('io'))).toBe(false);
});
