import { locate, parsePlan } from '../fault/read.ts';
import { readText } from '../files/text.ts';
import { PodError } from '../numerics/error.ts';
import type { NamedPlan } from './planned-run.ts';

/** Largest plan, in bytes. */
const planBytesMax = 2 ** 22;

/**
 * Reads a fault plan from a file. Messages about the plan name the path, the line and the column.
 *
 * @throws PodError `bad-plan` if the file has no fault plan.
 */
export function planInFile(path: string): NamedPlan {
  const text = readPlan(path);
  return {
    text,
    plan: parsePlan(text, path),
    placeOf: (at) => `${path}:${locate(text, at)}: ${at.join('.')}`,
    settingName: (key) => `run.${key} in ${path}`,
  };
}

function readPlan(path: string): string {
  const contents = readText(path, planBytesMax);
  if (contents.kind === 'text') return contents.text;
  throw new PodError('bad-plan', `${path}: expected a fault plan, found ${contents.found}`);
}
