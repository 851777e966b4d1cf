import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { leanEnv, leanFlags } from '../../../cluster/process/spawn.ts';

test('containers are kept small by what keeps processes small', () => {
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

test('every flag is one that node takes from its environment too', () => {
  for (const flag of leanFlags) {
    expect(process.allowedNodeEnvironmentFlags.has(flag.replace(/=.*/, ''))).toBe(true);
  }
});
