import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { leanEnv, leanFlags } from '../../../cluster/process/spawn.ts';

test('the image sets the same memory-saving variables as a pod of processes', () => {
  const dockerfile = readFileSync('cluster/image/Dockerfile', 'utf8').replaceAll('\\\n', ' ');
  const assignments = dockerfile
    .split('\n')
    .filter((line) => line.startsWith('ENV '))
    .flatMap((line) => [...line.matchAll(/(\w+)=(?:"([^"]*)"|(\S+))/g)])
    .map(([, name, quoted, plain]) => [name, quoted ?? plain]);
  expect(Object.fromEntries(assignments)).toEqual({
    ...leanEnv,
    NODE_ENV: 'production',
    NODE_OPTIONS: leanFlags.join(' '),
  });
});

test('every memory-saving flag is allowed in NODE_OPTIONS', () => {
  for (const flag of leanFlags) {
    expect(process.allowedNodeEnvironmentFlags.has(flag.replace(/=.*/, ''))).toBe(true);
  }
});
