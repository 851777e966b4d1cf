import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Makes a temporary folder whose name begins with `prefix`, calls `work` with the path of the
 * folder, and returns the result of `work`. The folder is removed when `work` has returned or
 * failed, and also if the process exits before that. `wrong` returns the error to throw if the
 * folder cannot be made.
 */
export async function withTemporaryFolder<T>(
  prefix: string,
  work: (folder: string) => Promise<T>,
  wrong: (error: unknown) => unknown = (error) => error,
): Promise<T> {
  const folder = made(prefix, wrong);
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    return await work(folder);
  } finally {
    process.off('exit', remove);
    remove();
  }
}

function made(prefix: string, wrong: (error: unknown) => unknown): string {
  try {
    return mkdtempSync(join(tmpdir(), prefix));
  } catch (error) {
    throw wrong(error);
  }
}
