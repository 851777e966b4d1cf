import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

type Call = (...args: readonly unknown[]) => unknown;

/** A function of the C library; calls that fail say why by the name of their error, such as `EAGAIN`. */
export type LibcFunction = (...args: readonly unknown[]) => { readonly error: string | undefined };

/**
 * Looks up a function of the C library that Node does not offer, by its C prototype. It must return
 * −1 when it fails and set `errno`. Loading takes some 20 ms, so callers do it when they need it.
 *
 * @returns the function, or one line that says why there is none.
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
    const [line = ''] = String(error instanceof Error ? error.message : error).split('\n', 1);
    return `koffi: ${line}`;
  }
}
