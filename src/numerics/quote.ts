/** Largest number of characters of a quoted value in a message. */
const valueLengthMax = 60;
/** Largest number of characters of a quoted name in a message: enough for most paths of files. */
const nameLengthMax = 160;
/** Largest number of characters of a whole message, including all that it quotes. */
export const messageLengthMax: number = 500;

/**
 * Returns a value in the form that messages quote: a string in double quotes, any other value as
 * one line of YAML. Control characters and invisible characters appear as escapes.
 *
 * The result shows at most `lengthMax` characters of the value. If the value is longer, it is cut
 * and ends with `…`; a cut string is followed by its full length. The function visits only the
 * characters that it shows, so a huge value costs no time.
 */
export function quote(value: unknown, lengthMax: number = valueLengthMax): string {
  const { text, isWhole } = take(symbolsOf(value, 0), lengthMax);
  if (isWhole) return text;
  if (typeof value !== 'string') return `${text}…`;
  return `${text}…" (${value.length} characters)`;
}

/**
 * Returns a name, such as the path of a file, in the form that messages quote. A name that is short
 * and has only plain characters stays unchanged. Any other name is formatted by {@link quote}.
 */
export function quoteName(name: string): string {
  const isPlain = name.length <= nameLengthMax && plainName.test(name);
  return isPlain ? name : quote(name, nameLengthMax);
}

/**
 * Returns a text as one line of at most `lengthMax` characters. Control characters, which a
 * terminal would interpret as commands, appear as escapes. `keep` says which part of a text that is
 * too long stays: `start` keeps only its start, `both` keeps its start and its end. The default is
 * `both`, because the end of a message often says what to do.
 */
export function oneLine(
  text: string,
  lengthMax: number = messageLengthMax,
  keep: 'start' | 'both' = 'both',
): string {
  const isLong = text.length > 2 * lengthMax;
  const cut = isLong ? `${text.slice(0, lengthMax)}${text.slice(-lengthMax)}` : text;
  const symbols = Array.from(cut.trim().replace(/\s*[\r\n]+\s*/g, '; '), escaped);
  const whole = take(symbols, lengthMax);
  if (!isLong && whole.isWhole) return whole.text;
  const endLength = keep === 'both' ? Math.floor(lengthMax / 3) : 0;
  const start = take(symbols, lengthMax - endLength - 1);
  const end = takeLast(symbols, endLength);
  return `${start.text}…${end}`;
}

/**
 * Escapes the characters of a JSON text that a terminal would interpret as commands.
 * `JSON.stringify` leaves some of these characters unescaped. The value that the JSON text
 * describes stays the same.
 */
export function plainJson(json: string): string {
  return json.replace(terminalControls, unicodeEscape);
}

/**
 * Escapes all control characters of a line, tabs included, in the form that JSON uses. A terminal
 * would interpret these characters as commands. Spaces stay.
 */
export function plainLine(line: string): string {
  return plainJson(line).replace(controls, unicodeEscape);
}

/** Applies {@link plainLine} to every line of a text. */
export function plainLines(text: string): string {
  return text.split('\n').map(plainLine).join('\n');
}

/** Returns a value as JSON that is safe to print on a terminal, see {@link plainJson}. */
export function jsonText(value: unknown, indent?: number): string {
  return plainJson(JSON.stringify(value, undefined, indent));
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** All control characters, those of ASCII included. [Unicode, Cc] */
const controls = /\p{Cc}/gu;

/**
 * Characters that JSON leaves unescaped although a terminal may interpret them as commands: control
 * characters, changes of the writing direction, and separators of lines. [Unicode, Bidi_Control]
 */
const terminalControls = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * Pattern of names that messages show without quotes: letters, digits, some punctuation, and single
 * spaces.
 */
const plainName = /^[\p{L}\p{N}_./:=,@%+~*-]+(?: [\p{L}\p{N}_./:=,@%+~*-]+)*$/u;

/**
 * Characters that messages show as escapes: control characters, format characters such as a change
 * of the writing direction, unpaired surrogates, private-use characters, and separators of lines
 * and paragraphs. [Unicode, General_Category]
 */
const escapedCharacters = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  if (!escapedCharacters.test(character)) return character;
  const code = character.codePointAt(0) ?? 0;
  const digits = code.toString(16);
  const long = code > 0xffff ? `\\u{${digits}}` : `\\u${digits.padStart(4, '0')}`;
  return shortEscapes[character] ?? long;
}

/**
 * Deepest level of nested lists and objects that {@link quote} shows. Values at a deeper level
 * appear as `…`.
 */
const depthMax = 4;

/**
 * Yields the text of a value as symbols. A symbol is a single character or a whole escape such as
 * `\n`. So a text that is cut between two symbols never ends in the middle of an escape.
 */
function* symbolsOf(value: unknown, depth: number): Generator<string> {
  if (typeof value === 'string') yield* symbolsOfText(value);
  else if (typeof value === 'number') yield numberInYaml(value);
  else if (typeof value !== 'object' || value === null) yield* Array.from(String(value), escaped);
  else if (depth >= depthMax) yield '…';
  else if (Array.isArray(value)) yield* symbolsOfList(value, depth);
  else yield* symbolsOfFields(value, depth);
}

function* symbolsOfText(text: string): Generator<string> {
  yield '"';
  for (const character of text) {
    yield character === '"' || character === '\\' ? `\\${character}` : escaped(character);
  }
  yield '"';
}

function* symbolsOfList(values: readonly unknown[], depth: number): Generator<string> {
  yield '[';
  for (const [index, value] of values.entries()) {
    if (index > 0) yield ',';
    yield* symbolsOf(value, depth + 1);
  }
  yield ']';
}

function* symbolsOfFields(fields: object, depth: number): Generator<string> {
  yield '{';
  let isFirst = true;
  // This loop visits one field at a time. Object.entries would first list all fields, which may be
  // many.
  for (const key in fields) {
    if (!isFirst) yield ',';
    isFirst = false;
    yield* symbolsOfText(key);
    yield ':';
    yield* symbolsOf((fields as Readonly<Record<string, unknown>>)[key], depth + 1);
  }
  yield '}';
}

/**
 * Writes a number as YAML does: NaN as `.nan`, infinity as `.inf`. JSON would write both as `null`.
 */
function numberInYaml(value: number): string {
  if (Number.isNaN(value)) return '.nan';
  return Number.isFinite(value) ? String(value) : value > 0 ? '.inf' : '-.inf';
}

/**
 * Joins the first symbols, as many as fit into `lengthMax` characters. A symbol is a character or a
 * whole escape. `isWhole` is true if all symbols fit.
 */
function take(
  symbols: Iterable<string>,
  lengthMax: number,
): { readonly text: string; readonly isWhole: boolean } {
  let text = '';
  for (const symbol of symbols) {
    if (text.length + symbol.length > lengthMax) return { text, isWhole: false };
    text += symbol;
  }
  return { text, isWhole: true };
}

/**
 * Joins the last symbols, as many as fit into `lengthMax` characters. A symbol is a character or a
 * whole escape.
 */
function takeLast(symbols: readonly string[], lengthMax: number): string {
  let length = 0;
  let from = symbols.length;
  for (; from > 0; from--) {
    length += symbols[from - 1]?.length ?? 0;
    if (length > lengthMax) break;
  }
  return symbols.slice(from).join('');
}
