import { readText } from '../files/text.ts';
import type { HloModule } from '../hlo/instruction.ts';
import { parse } from '../hlo/parse.ts';
import { PodError, withOrigin } from '../numerics/error.ts';

/** Largest HLO text, in bytes. */
const hloBytesMax = 2 ** 26;

/**
 * Reads a module from a file of HLO text, as XLA prints it. Messages name the path, the line and
 * the column.
 *
 * @throws PodError `bad-program` if the file has no module.
 */
export function moduleInFile(path: string): HloModule {
  const contents = readText(path, hloBytesMax);
  if (contents.kind !== 'text') {
    throw new PodError('bad-program', `${path}: expected HLO text, found ${contents.found}`);
  }
  return withOrigin(path, () => parse(contents.text));
}
