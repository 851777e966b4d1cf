import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Environment } from '../../../cluster/host/environment.ts';
import { type OwnNames, rankOf } from '../../../cluster/worker/rank.ts';

const here: OwnNames = { hostname: 'here', addresses: ['127.0.0.1', '10.0.0.1', 'fe80::1'] };

function rank(env: Environment, hostname = 'here', addresses = here.addresses): number | undefined {
  return rankOf(env, { hostname, addresses });
}

function place(
  hostnames: string,
  hostname: string,
  addresses: readonly string[] = [],
): number | undefined {
  return rank({ TPU_WORKER_HOSTNAMES: hostnames }, hostname, addresses);
}

describe("the number of a process's Cloud TPU", () => {
  test.each<[Environment, number | undefined]>([
    [{}, undefined],
    [{ TPU_WORKER_ID: '3', POD_SLOT: '1' }, 3],
    [{ TPU_WORKER_ID: ' 3\n' }, 3],
    [{ TPU_WORKER_ID: '', TPU_WORKER_HOSTNAMES: 'a.pod,here.pod' }, 1],
    [{ TPU_WORKER_ID: '', TPU_WORKER_HOSTNAMES: '', POD_SLOT: '', JOB_COMPLETION_INDEX: '2' }, 2],
    [{ POD_SLOT: '1' }, 0],
    [{ JOB_COMPLETION_INDEX: '5' }, 5],
  ])('%j', (env, expected) => expect(rank(env)).toBe(expected));

  const numbers = ['-1', '1.5', '1e3', '0x10', '٣', 'NaN', ' ', '9'.repeat(400), '1000000', '1 2'];
  test.each(numbers)('is not read from %j', (text) => {
    for (const name of ['TPU_WORKER_ID', 'POD_SLOT', 'JOB_COMPLETION_INDEX']) {
      const error = errorOf({ [name]: text });
      expect(error).toMatchObject({ code: 'bad-config', exitCode: 2 });
      expect(error.message).toMatch(
        new RegExp(`^${name}: expected a whole number from \\d to 999999, found `),
      );
      expect(error.message.length).toBeLessThan(200);
    }
  });

  test('is refused for POD_SLOT 0, because slots count from 1', () => {
    expect(errorOf({ POD_SLOT: '0' }).message).toMatch(/^POD_SLOT: expected a whole number from 1/);
  });
});

describe('the place in a list of hosts', () => {
  const label = fc.stringMatching(/^[a-z][a-z0-9-]{0,6}[a-z0-9]$/);
  const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((it) => it.join('.'));
  const odd = (text: string): fc.Arbitrary<string> =>
    fc.constantFrom(text, text.toUpperCase(), `${text}.`, `  ${text} `);

  test('a whole name is found in any place and spelling', () => {
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 12 }), fc.nat(), (names, at) => {
        const own = names[at % names.length] ?? '';
        fc.assert(
          fc.property(odd(own), odd(own), (listed, hostname) => {
            const list = names.map((it) => (it === own ? listed : it)).join(',');
            expect(place(list, hostname)).toBe(at % names.length);
          }),
          { numRuns: 4 },
        );
      }),
      { numRuns: 50 },
    );
  });

  test('a host that is not in the list is refused', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(label, { minLength: 2, maxLength: 9 }),
        ([own = '', ...others]) => {
          const list = others.map((it) => `${it}.example`).join(',');
          expect(() => place(list, own)).toThrow(/expected \S+ among its names, found/);
        },
      ),
    );
  });

  test.each<[string, string, number]>([
    ['tpu-1.a,tpu-1.b', 'tpu-1.b', 1],
    ['tpu-1.b,tpu-1', 'tpu-1.a', 1],
    ['tpu-1,tpu-1.a', 'tpu-1.a', 1],
    ['tpu-1,tpu-10,tpu-100', 'tpu-10', 1],
    ['tpu-0.pod.example,tpu-1.pod.example', 'tpu-1', 1],
    ['tpu-0,tpu-1', 'tpu-1.pod.example', 1],
    ['tpu-0.pod,tpu-1.pod', 'tpu-1.pod.svc.cluster.local', 1],
    ['TPU-0., tpu-1 ', 'Tpu-1', 1],
    ['10.0.0.10,10.0.0.1', '10.0.0.1', 1],
    ['10.0.0.1', '10.0.0.1', 0],
  ])('%s has %s in place %i', (list, own, expected) => expect(place(list, own)).toBe(expected));

  test.each<[string, string, number]>([
    ['10.0.0.10,10.0.0.1', '10.0.0.1', 1],
    ['fe80::2,FE80:0:0::0001', 'fe80::1', 1],
    ['[fe80::2],[fe80::1]', 'fe80::1', 1],
    ['::ffff:10.0.0.2,::ffff:a00:1', '10.0.0.1', 1],
    ['other,10.0.0.1', '::ffff:10.0.0.1', 1],
  ])('%s has the host with address %s in place %i', (list, address, expected) => {
    expect(place(list, 'some-name', [address, '127.0.0.1', '::1'])).toBe(expected);
  });

  test.each<[string, string, RegExp]>([
    [
      'tpu-1.a,tpu-1.b',
      'tpu-1',
      /expected one entry for tpu-1, found tpu-1\.a and tpu-1\.b: use full names/,
    ],
    ['tpu-1.a,tpu-1.b', 'tpu-1.c', /expected tpu-1\.c among its names, found "tpu-1\.a,tpu-1\.b"/],
    ['10.0.0.10,10.0.0.11', '10.0.0.1', /expected 10\.0\.0\.1 among/],
    ['10.0.0.1,10.1.0.1', '10', /expected 10 among/],
    ['a,b,A.', 'b', /expected each host once, found a twice/],
    ['::1,0::1', 'b', /expected each host once, found ::1 twice/],
    ['a,,b', 'b', /expected names with commas between them, found an empty name at position 2/],
    ['a,b,', 'b', /found an empty name at position 3/],
    [' ', 'b', /found an empty name at position 1/],
    ['a\u001b[2J,b', 'c', /found "a\\u001b\[2J,b"/],
    [`${'a,'.repeat(40_000)}b`, 'b', /expected at most 65536 characters, found 80001/],
  ])('%s is refused for %s', (list, own, message) => {
    const error = errorOf({ TPU_WORKER_HOSTNAMES: list }, own, []);
    expect(error).toMatchObject({ code: 'bad-config' });
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^TPU_WORKER_HOSTNAMES: [^\p{Cc}]{1,300}$/u);
  });

  test('two addresses of one host in a list are refused', () => {
    const env = { TPU_WORKER_HOSTNAMES: '10.0.0.1,10.0.0.2' };
    const error = errorOf(env, 'x', ['10.0.0.1', '10.0.0.2']);
    expect(error.message).toMatch(/expected one entry for x, found 10\.0\.0\.1 and 10\.0\.0\.2/);
  });
});

function errorOf(env: Environment, hostname = 'here', addresses = here.addresses) {
  try {
    rank(env, hostname, addresses);
  } catch (error) {
    return error as Error & { readonly code: string };
  }
  throw new Error('it was taken');
}
