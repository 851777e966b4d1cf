import { LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { excessIn, yamlTrouble } from '../files/yaml.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import type { FaultPlan } from './plan.ts';
import { planSchema } from './schema.ts';

/**
 * Largest number of YAML tokens in a plan, not counting comments and white space. The longest plan
 * that the schema accepts has about 300,000.
 */
const tokensMax = 400_000;

type Document = ReturnType<typeof parseDocument>;

/**
 * Parses the text of a plan file. `name` is the name of the file in messages.
 *
 * @throws PodError `bad-plan`, for example `plan.yaml:7:10: faults.0.tpu: expected …` for a mistake
 * in line 7, column 10.
 */
export function parsePlan(text: string, name: string): FaultPlan {
  const excess = excessIn(text, tokensMax);
  if (excess !== undefined) {
    throw new PodError('bad-plan', `${name}: expected a fault plan, found ${excess}`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, logLevel: 'error' });
  const [problem] = [...document.errors, ...document.warnings];
  if (problem !== undefined) {
    throw badPlan(name, lines, problem.pos[0], yamlTrouble(problem));
  }
  if (document.contents === null) {
    throw new PodError('bad-plan', `${name}: expected a fault plan, found nothing`);
  }
  const value = attempt(
    () => document.toJS({ maxAliasCount: 100 }) as unknown,
    (message) => badPlan(name, lines, 0, yamlTrouble({ message })),
  );
  return checkPlan(value, (path) => `${name}:${placeOf(lines, offsetOf(document, path))}`);
}

/**
 * Returns a value as a fault plan if it is one. `place` returns, for messages, the place of the
 * value at a path, such as `plan.yaml:7:10`.
 *
 * @throws PodError `bad-plan` for a value that does not match the schema of plans.
 */
export function checkPlan(
  value: unknown,
  place: (path: readonly PropertyKey[]) => string,
): FaultPlan {
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = deepest(parsed.error.issues);
  const path = issue.path.join('.') || 'the plan';
  const what = describe(issue, valueAt(value, issue.path));
  throw new PodError('bad-plan', `${place(issue.path)}: ${path}: ${what}`);
}

/** Returns the line and the column, both from 1, of the value at a path: `7:10`. */
export function locate(text: string, path: readonly PropertyKey[]): string {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, logLevel: 'error' });
  return placeOf(lines, offsetOf(document, path));
}

function badPlan(name: string, lines: LineCounter, offset: number, message: string): PodError {
  return new PodError('bad-plan', `${name}:${placeOf(lines, offset)}: ${message}`);
}

function placeOf(lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${Math.max(1, line)}:${Math.max(1, col)}`;
}

/**
 * Returns the offset in the text of the value at a path. If the text lacks this value, returns the
 * offset of the nearest value that contains the path.
 */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length >= 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as { range?: number[] } | undefined;
    const start = node?.range?.[0];
    if (start !== undefined) return start;
  }
  return 0;
}

/**
 * Returns the one issue to report. A value such as a position may have several forms. If the value
 * fits none of them, zod lists the issues of every form. The user probably meant the form with the
 * fewest issues, so only the issues of this form are considered. For this choice, an unknown key
 * counts as ten issues and a value of another type as a hundred.
 */
function deepest(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue {
  const [issue] = issues as readonly [z.core.$ZodIssue];
  if (issue.code !== 'invalid_union' || issue.errors.flat().every(isOfType)) return issue;
  const options = issue.errors.filter((option) => option.length > 0);
  const meant = [...options].sort((a, b) => strangeness(a) - strangeness(b))[0];
  if (meant === undefined) return issue;
  const inner = deepest(meant);
  return { ...inner, path: [...issue.path, ...inner.path] };
}

function strangeness(issues: readonly z.core.$ZodIssue[]): number {
  return issues.reduce((sum, it) => {
    if (it.code === 'unrecognized_keys') return sum + 10 * it.keys.length;
    return sum + (isOfType(it) ? 100 : 1);
  }, 0);
}

/** True if a form of a value needs another type than that of the value. */
function isOfType(issue: z.core.$ZodIssue): boolean {
  return issue.code === 'invalid_type' && issue.path.length === 0;
}

function describe(issue: z.core.$ZodIssue, found: unknown): string {
  switch (issue.code) {
    case 'unrecognized_keys':
      return `expected no ${issue.keys.map((key) => quote(key)).join(', ')}; see docs/FAULTS.md`;
    case 'invalid_value':
      return `expected ${issue.values.join(', ')}, found ${shown(found)}`;
    case 'invalid_union':
      if (issue.errors.length > 0) return `expected ${formOf(issue)}, found ${shown(found)}`;
      return `expected a known kind of fault, found ${shown(found)}; docs/FAULTS.md lists the kinds`;
    case 'invalid_type':
      return `expected ${formOf(issue)}, found ${shown(found)}`;
    case 'too_small':
      return `expected ${limit(issue, issue.minimum, ['at least', 'more than'])}, found ${shown(found)}`;
    case 'too_big':
      return `expected ${limit(issue, issue.maximum, ['at most', 'less than'])}, found ${shown(found)}`;
    case 'invalid_format':
      return `${issue.message}, found ${shown(found)}${adviceFor(found)}`;
    default:
      return `${issue.message}, found ${shown(found)}`;
  }
}

/** Forms of values, by the last part of their path. */
const forms: Readonly<Record<string, string>> = {
  at: 'a position such as { step: 5 }',
  for: 'a duration such as { steps: 4 } or { ms: 500 }',
  link: 'the name of a link such as "chip(3,1)+x", or two neighbours such as [0, 1]',
  faults: 'a list of faults',
  run: 'settings such as { tpus: 8, steps: 20 }',
};

/** Forms of values, by the type that the schema names. */
const types: Readonly<Record<string, string>> = {
  ...{ number: 'a number', int: 'a whole number', string: 'text', boolean: 'true or false' },
  ...{ array: 'a list', tuple: 'a list', object: 'a value with fields such as { name: value }' },
};

/** Describes the form that a value of a plan must have. */
function formOf(issue: z.core.$ZodIssue): string {
  const { path } = issue;
  if (path.length === 0) return 'a fault plan';
  if (path[0] === 'run' && path.length === 2) return 'text, a number, or true or false';
  if (path[0] === 'faults' && path.length === 2) {
    return 'a fault such as { fault: kill, tpu: 3, at: { step: 5 } }';
  }
  const type = issue.code === 'invalid_type' ? issue.expected : '';
  return forms[String(path.at(-1))] ?? types[type] ?? type;
}

/** Describes the bound of a number, or of the length of a list. */
function limit(
  { origin, inclusive }: { readonly origin: string; readonly inclusive?: boolean },
  bound: number | bigint,
  [included, excluded]: readonly [string, string],
): string {
  const text = `${inclusive === false ? excluded : included} ${bound}`;
  return origin === 'array' ? `${text} values` : text;
}

/**
 * Returns advice for the name of a link that has been cut. In a value in braces, YAML takes the
 * comma of `chip(3,1)+x` for the end of the name.
 */
function adviceFor(found: unknown): string {
  const isCut = typeof found === 'string' && /^chip\(\d+$/.test(found);
  return isCut ? '; YAML ends it at the comma: put the name of the link in quotes' : '';
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : quote(value);
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (it, key) => (typeof it === 'object' && it !== null ? Reflect.get(it, key) : undefined),
    value,
  );
}

function attempt<T>(work: () => T, wrong: (message: string) => PodError): T {
  try {
    return work();
  } catch (error) {
    throw wrong(messageOf(error));
  }
}
