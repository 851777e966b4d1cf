import { Document, isCollection } from 'yaml';
import { oneLine } from '../numerics/quote.ts';
import type { FaultPlan } from './plan.ts';

/** Longest line of a printed plan, in characters. A longer fault is broken into several lines. */
const lineWidth = 100;

/** Paths of the values of a plan that are printed in one line, in addition to each fault. */
const inOneLine = [['run'], ['chance'], ['expect', 'recovery'], ['expect', 'sometimes']];

/**
 * Returns the text of a plan file. `parsePlan` reads this text as the same plan. `comments` are the
 * first lines of the file.
 */
export function printPlan(plan: FaultPlan, comments: readonly string[] = []): string {
  const { run, faults, chance, expect } = plan;
  const document = new Document({ run, faults, ...(chance && { chance }), expect });
  for (const path of [...inOneLine, ...faults.map((_, i) => ['faults', i])]) {
    const node: unknown = document.getIn(path);
    if (isCollection(node)) node.flow = true;
  }
  const heading = comments.map((line) => `# ${oneLine(line)}\n`).join('');
  return `${heading}${document.toString({ lineWidth, flowCollectionPadding: true })}`;
}
