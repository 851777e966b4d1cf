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
])('a worker that is reached by %s listens on %s', async (own, expected) => {
  expect(await bindAddress(own)).toBe(expected);
});

test('localAddress is the address from which this machine connects to the given host', async () => {
  expect(await localAddress('127.0.0.1', 7070)).toBe('127.0.0.1');
  expect(await localAddress('localhost', 7070)).toMatch(/^(127\.0\.0\.1|::1)$/);
});

test.skipIf(!hasIPv6)('localAddress works over IPv6 as well', async () => {
  expect(await localAddress('::1', 7070)).toBe('::1');
});
