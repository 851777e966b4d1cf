import { CST, isMap, isScalar, Lexer, LineCounter, Parser, parseDocument } from 'yaml';
import { oneLine, quote } from '../numerics/quote.ts';

/** A setting as a text has it. */
export interface TextSetting {
  /** As it is spelt there. */
  readonly key: string;
  /** What YAML makes of it: text, a number, true or false, null, or a list or fields of these. */
  readonly value: unknown;
  /** Number of the line of its key, from 1. */
  readonly line: number;
}

/** What a text of settings holds, or words for a message: "expected … , found …". */
export type SettingsText =
  | { readonly kind: 'settings'; readonly settings: readonly TextSetting[] }
  | { readonly kind: 'refused'; readonly expected: string; readonly found: string };

/** Length of a text of settings, in characters; there are some thirty settings. */
export const settingsLengthMax: number = 2 ** 16;
/** Signs and words of YAML, comments and blank lines left out. */
const tokensMax = 4000;
/** Settings in a text. */
const settingsMax = 200;
/** Levels of lists and fields, that of the settings among them. */
const depthMax = 8;

/**
 * Reads settings from YAML, one `key: value` after another, in their order. Never throws.
 *
 * Length, number of tokens and depth are bounded one after the other, each before the text is walked
 * by something that takes more time or stack: 300,000 keys, 10,000 levels or aliases of aliases are
 * refused within milliseconds. Keys are plain text, and each is there once.
 */
export function parseSettingsText(text: string): SettingsText {
  if (text.length > settingsLengthMax) {
    return refused(`at most ${settingsLengthMax} characters`, `${text.length}`);
  }
  const tokens = countTokens(text);
  if (tokens > tokensMax) {
    return refused(`at most ${tokensMax} words and signs of YAML`, 'more');
  }
  if (isDeep(text)) return refused(`at most ${depthMax} levels`, 'more');
  return read(text);
}

function refused(expected: string, found: string): SettingsText {
  return { kind: 'refused', expected, found };
}

/** Counts up to one more than may be. */
function countTokens(text: string): number {
  let count = 0;
  for (const token of new Lexer().lex(text)) {
    const type = CST.tokenType(token);
    if (type === 'comment' || type === 'newline' || type === 'space') continue;
    if (++count > tokensMax) return count;
  }
  return count;
}

/**
 * Whether lists and fields are nested too deep for parsers that call themselves. An alias within a
 * list counts as deep: it may stand for lists of lists, or for the list that it is in.
 */
function isDeep(text: string): boolean {
  const waiting: { readonly token: CST.Token; readonly depth: number }[] = [];
  for (const token of new Parser().parse(text)) waiting.push({ token, depth: 0 });
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { token, depth } = next;
    if (depth > depthMax || (depth > 1 && token.type === 'alias')) return true;
    for (const child of childrenOf(token)) {
      const isCollection = 'items' in child;
      waiting.push({ token: child, depth: isCollection ? depth + 1 : depth });
    }
  }
  return false;
}

function childrenOf(token: CST.Token): CST.Token[] {
  if (token.type === 'document') return token.value === undefined ? [] : [token.value];
  if (!('items' in token)) return [];
  return token.items.flatMap(({ key, value }) => [key, value].filter((it) => it != null));
}

const expectedSettings = 'settings such as "model: cnn", one a line';

function read(text: string): SettingsText {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineOf = (offset = 0): number => Math.max(1, lines.linePos(offset).line);
  const [problem] = [...document.errors, ...document.warnings];
  if (problem !== undefined) return noYaml(problem.message, lineOf(problem.pos[0]));
  const { contents } = document;
  if (!isMap(contents)) return refused(expectedSettings, contents === null ? 'nothing' : 'none');
  if (contents.items.length > settingsMax) {
    return refused(`at most ${settingsMax} settings`, `${contents.items.length}`);
  }
  const settings: TextSetting[] = [];
  for (const { key, value } of contents.items) {
    const line = lineOf(key.range?.[0]);
    if (!isScalar(key) || typeof key.value !== 'string') {
      const found = isScalar(key) ? quote(key.value) : 'a list or fields';
      return refused(expectedSettings, `${found} as the name of a setting in line ${line}`);
    }
    try {
      settings.push({ key: key.value, value: value?.toJS(document) ?? null, line });
    } catch (error) {
      return noYaml(error instanceof Error ? error.message : String(error), line);
    }
  }
  return { kind: 'settings', settings };
}

function noYaml(why: string, line: number): SettingsText {
  return refused('YAML', `in line ${line}: ${oneLine(why, 120)}`);
}
