import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { type Fault, isLinkKind, isMembershipPhase } from './plan.ts';
import { checkPlan } from './read.ts';

/** Form of a fault on the command line. */
export const faultForm =
  'KIND[:TARGET][,NAME=VALUE]…@STEP[/PHASE[/BUCKET[/HOP]]] or …@MEMBERSHIP-PHASE[/GENERATION]';

/**
 * Parses a fault in the short form of the command line, such as `kill:3@10/reduce-scatter/0/2`,
 * `slow:6,factor=2,for=4steps@8` or `hang:1@loading/2`. The target is a Cloud TPU, a row, a column,
 * or a link such as `3-7` or `chip(3,1)+x`. `origin` says in messages where the text was given.
 *
 * @throws PodError `bad-flag` for a text of another form, `bad-plan` for a wrong value.
 */
export function parseFault(text: string, origin: string): Fault {
  const [, kind = '', target, fields = '', position = ''] =
    /^([a-z-]+)(?::([^,@(]*(?:\([^)]*\))?[^,@]*))?((?:,[^@]*)?)@([^@]+)$/.exec(text) ?? [];
  const wrong = (what: string): PodError =>
    new PodError('bad-flag', `${origin}: expected ${what}, found ${quote(text)}`);
  if (kind === '') throw wrong(faultForm);
  const given = [
    ...Object.entries({ fault: kind, ...(target !== undefined && targetOf(kind, target)) }),
    ...fields.split(',').slice(1).map(fieldOf),
    ['at', positionOf(position, wrong)] as const,
  ];
  const names = given.map(([name]) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw wrong(`${quote(twice)} once`);
  const fault = Object.fromEntries(given);
  const [parsed] = checkPlan({ faults: [fault] }, () => `${origin}: ${quote(text)}`).faults;
  return parsed as Fault;
}

function targetOf(kind: string, text: string): Readonly<Record<string, unknown>> {
  if (kind === 'lose-row') return { row: literal(text) };
  if (kind === 'lose-column') return { column: literal(text) };
  if (!isLinkKind(kind)) return { tpu: literal(text) };
  const ends = /^(\d+)-(\d+)$/.exec(text);
  return { link: ends === null ? text : [Number(ends[1]), Number(ends[2])] };
}

/** Returns the name and the value of a field. The duration `for` is written `4steps` or `500ms`. */
function fieldOf(text: string): readonly [string, unknown] {
  const [name = '', ...rest] = text.split('=');
  const value = rest.join('=');
  const duration = name === 'for' ? /^([\d.]+)(steps|ms)$/.exec(value) : null;
  if (duration === null) return [name, literal(value)];
  return [name, { [String(duration[2])]: Number(duration[1]) }];
}

function positionOf(
  text: string,
  wrong: (what: string) => PodError,
): Readonly<Record<string, unknown>> {
  const [first = '', second, third, fourth, ...rest] = text.split('/');
  if (isMembershipPhase(first)) {
    if (third !== undefined) throw wrong('MEMBERSHIP-PHASE[/GENERATION] after @');
    return { during: first, ...given('generation', second) };
  }
  if (rest.length > 0) throw wrong('STEP[/PHASE[/BUCKET[/HOP]]] after @');
  return {
    step: literal(first),
    ...(second !== undefined && { phase: second }),
    ...given('bucket', third),
    ...given('hop', fourth),
  };
}

function given(name: string, text: string | undefined): Readonly<Record<string, unknown>> {
  return text === undefined ? {} : { [name]: literal(text) };
}

/** Returns a number or a boolean if the text is one, otherwise the text. */
function literal(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}
