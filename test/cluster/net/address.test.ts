import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  canonicalAddress,
  formatPlace,
  parseHost,
  parsePlace,
} from '../../../cluster/net/address.ts';

const port = fc.integer({ min: 1, max: 65535 });
const label = fc.stringMatching(/^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,20}[A-Za-z_])?$/);
const name = fc
  .array(label, { minLength: 1, maxLength: 4 })
  .map((it) => it.join('.'))
  .filter((it) => !/(^|\.)(\d+|0x[0-9a-f]*)$/i.test(it));
const host = fc.oneof(name, fc.ipV4(), fc.ipV6());

test('a formatted place is parsed back to the same host and port', () => {
  fc.assert(
    fc.property(host, port, fc.constantFrom('', ' ', '\n'), (host, port, space) => {
      const text = formatPlace({ host, port });
      expect(parsePlace('X', `${space}${text}${space}`)).toEqual({ host, port });
      expect(new URL(`ws://${text}`).port || '80').toBe(String(port));
      expect(parseHost('X', host)).toBe(host);
    }),
  );
});

test('any text is parsed or refused in one line that names the variable', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
      for (const parse of [parsePlace, parseHost]) {
        try {
          parse('POD_MASTER', text);
        } catch (error) {
          expect(error).toMatchObject({ code: 'bad-config', exitCode: 2 });
          expect((error as Error).message).toMatch(/^POD_MASTER: expected [^\p{Cc}]{1,300}$/u);
        }
      }
    }),
  );
});

test.each([
  ['http://master:7070', 'leave out the part up to //'],
  ['ws://master:7070', 'leave out the part up to //'],
  ['master', 'it has no port'],
  ['master:', 'a port is a number from 1 to 65535'],
  ['master:7070/x', 'leave out the path'],
  ['master:7070?x=1', 'leave out the path'],
  ['user@master:7070', 'leave out the user name'],
  ['::1:7070', 'an IPv6 address must be in brackets'],
  ['::1', 'an IPv6 address must be in brackets'],
  ['a:b:7070', 'an IPv6 address must be in brackets'],
  ['[::1]', 'it has no port'],
  ['[::1', 'the brackets must contain an IPv6 address'],
  ['[::1]x:7070', 'the brackets must contain an IPv6 address'],
  ['[master]:7070', 'the brackets must contain an IPv6 address'],
  ['[fe80::1%eth0]:7070', 'an address with a zone is not supported: use a name'],
  [':7070', 'it has no host'],
  ['7070', 'it has no port'],
  ['master:0', 'a port is a number from 1 to 65535'],
  ['master:65536', 'a port is a number from 1 to 65535'],
  ['master:-1', 'a port is a number from 1 to 65535'],
  ['master:7070.0', 'a port is a number from 1 to 65535'],
  ['master:http', 'a port is a number from 1 to 65535'],
  ['master:٧٠٧٠', 'a port is a number from 1 to 65535'],
  ['', 'it is blank'],
  [' \t ', 'it is blank'],
  ['mas ter:7070', 'it has white space in it'],
  ['master: 7070', 'it has white space in it'],
  ['master,other:7070', 'no host can have this name'],
  ['mas\u0007ter:7070', 'no host can have this name'],
  ['-master:7070', 'no host can have this name'],
  ['a..b:7070', 'no host can have this name'],
  ['*:7070', 'no host can have this name'],
  [`${'a'.repeat(64)}:7070`, 'no host can have this name'],
  [`${'abc.'.repeat(70)}:7070`, 'no host can have this name'],
  ['10.0.0.256:7070', 'an IPv4 address has four numbers from 0 to 255'],
  ['10.0.1:7070', 'an IPv4 address has four numbers from 0 to 255'],
  ['0x7f000001:7070', 'an IPv4 address has four numbers from 0 to 255'],
])('%j: %s', (text, why) => {
  expect(() => parsePlace('POD_MASTER', text)).toThrow(
    expect.objectContaining({
      code: 'bad-config',
      message: expect.stringMatching(
        new RegExp(
          `^POD_MASTER: expected HOST:PORT, such as master:7070 or \\[::1\\]:7070, found .*: ${why}$`,
        ),
      ),
    }),
  );
});

test.each([
  [' master:7070 ', 'master', 7070],
  ['pod_master:7070', 'pod_master', 7070],
  ['tasks.master.:7070', 'tasks.master.', 7070],
  ['[::1]:7070', '::1', 7070],
  ['[FE80:0::1]:1', 'FE80:0::1', 1],
  ['127.0.0.1:65535', '127.0.0.1', 65535],
  ['müller.example:7070', 'müller.example', 7070],
  ['master:07070', 'master', 7070],
])('%j is a valid place', (text, host, port) => {
  expect(parsePlace('POD_MASTER', text)).toEqual({ host, port });
});

describe('a host', () => {
  test.each(['::', '[::]', '0.0.0.0', 'localhost', ' here '])('%j is valid', (text) => {
    expect(parseHost('POD_HOST', text)).toBe(text.trim().replace(/[[\]]/g, ''));
  });
  test.each(['', 'a b', 'a:1', 'http://a', 'fe80::1%lo', '1.2.3', '[a]'])('%j is not', (text) => {
    expect(() => parseHost('POD_HOST', text)).toThrow(/^POD_HOST: expected the name or address of/);
  });
});

test('all spellings of an address have the same canonical form', () => {
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const canonical = canonicalAddress(address) ?? '?';
      expect(canonicalAddress(canonical)).toBe(canonical);
      expect(canonicalAddress(address.toUpperCase())).toBe(canonical);
      expect(canonicalAddress(`[${address}]`)).toBe(canonical);
    }),
  );
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      expect(canonicalAddress(address)).toBe(address);
      expect(canonicalAddress(`::ffff:${address}`)).toBe(address);
    }),
  );
  for (const none of ['master', '', '1.2.3', '10.0.0.256', 'fe80::1%eth0', '[10.0.0.1']) {
    expect(canonicalAddress(none)).toBeUndefined();
  }
});
