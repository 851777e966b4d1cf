import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import { messageOf } from '../../src/numerics/error.ts';

type Call = (...args: readonly unknown[]) => unknown;

/**
 * Function of the C library. `error` is the name of the error, such as `EAGAIN`, if the call
 * failed; undefined if the call succeeded.
 */
export type LibcFunction = (...args: readonly unknown[]) => { readonly error: string | undefined };

/**
 * Looks up a function of the C library. `prototype` is its declaration in C. The function must
 * return −1 and set `errno` when it fails. The first look-up loads the package koffi, which takes
 * about 20 ms, so callers look a function up only when they need it.
 *
 * @returns the function, or the reason in one line why the function is not available.
 */
export function findInLibc(prototype: string): LibcFunction | string {
  if (process.platform === 'win32') return 'no C library of POSIX on Windows';
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const call = koffi.load(null).func(prototype) as Call;
    return (...args) => {
      const failed = Number(call(...args)) === -1;
      return { error: failed ? getSystemErrorName(-koffi.errno()) : undefined };
    };
  } catch (error) {
    const [line = ''] = messageOf(error).split('\n', 1);
    return `koffi: ${line}`;
  }
}
