import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { bindAddress, localAddress } from '../../../cluster/worker/address.ts';

const hasIPv6 = networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') ?? false;

test.each([
  ['127.0.0.1', '127.0.0.1'],
  ['::1', '::1'],
  ['10.1.2.3', '0.0.0.0'],
  ['2001:db8::7', '::'],
  ['nobody.invalid', '0.0.0.0'],
])('who is reached by %s listens on %s', async (own, expected) => {
  expect(await bindAddress(own)).toBe(expected);
});

test('a machine is reached by the address from which it reaches others', async () => {
  expect(await localAddress('127.0.0.1', 7070)).toBe('127.0.0.1');
  expect(await localAddress('localhost', 7070)).toMatch(/^(127\.0\.0\.1|::1)$/);
});

test.skipIf(!hasIPv6)('over IPv6 as well', async () => {
  expect(await localAddress('::1', 7070)).toBe('::1');
});
