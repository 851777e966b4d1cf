/** How many characters of a value a message shows. */
const valueLengthMax = 60;
/** How many characters of a name a message shows: enough for most paths of files. */
const nameLengthMax = 160;
/** How long a message may be, whatever it quotes. */
export const messageLengthMax: number = 500;

/**
 * A value as a message quotes it: text in double quotes, other values as YAML writes them in a line.
 *
 * The result has at most `lengthMax` characters, plus the length of a text that was cut. Characters
 * that a terminal obeys, or that nobody can see, are shown as escapes. Only the part of the value
 * that is shown is walked.
 */
export function quote(value: unknown, lengthMax: number = valueLengthMax): string {
  const { text, isWhole } = take(symbolsOf(value, 0), lengthMax);
  if (isWhole) return text;
  if (typeof value !== 'string') return `${text}…`;
  return `${text}…" (${value.length} characters)`;
}

/** A name, such as the path of a file, as a message quotes it: as it is, or as {@link quote} does. */
export function quoteName(name: string): string {
  const isPlain = name.length <= nameLengthMax && plainName.test(name);
  return isPlain ? name : quote(name, nameLengthMax);
}

/**
 * A text as one line of at most `lengthMax` characters, without characters that a terminal obeys.
 * Of a text that is too long, the beginning is kept, and of a whole message (`both`) the end as well:
 * it often says what to do.
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
 * JSON in which every character that a terminal obeys is an escape: JSON itself leaves some as they
 * are. The value is the same.
 */
export function plainJson(json: string): string {
  return json.replace(obeyed, unicodeEscape);
}

/**
 * A line, such as one of JSON, in which every character that a terminal obeys is an escape of JSON.
 * Blanks stay.
 */
export function plainLine(line: string): string {
  return plainJson(line).replace(controls, unicodeEscape);
}

/** Several lines, each as {@link plainLine} makes it. */
export function plainLines(text: string): string {
  return text.split('\n').map(plainLine).join('\n');
}

/** A value as JSON that a terminal shows as it is, see {@link plainJson}. */
export function jsonText(value: unknown, indent?: number): string {
  return plainJson(JSON.stringify(value, undefined, indent));
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** All controls, those of ASCII too [Unicode, Cc]. */
const controls = /\p{Cc}/gu;

/** Controls that JSON leaves, changes of direction, separators of lines [Unicode, Bidi_Control]. */
const obeyed = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Names that need no quotes in a message: letters, digits, some signs, single blanks. */
const plainName = /^[\p{L}\p{N}_./:=,@%+~*-]+(?: [\p{L}\p{N}_./:=,@%+~*-]+)*$/u;

/**
 * Characters that are shown as escapes: control characters, format characters such as a change of
 * the direction, surrogates without their other half, private characters, and separators of lines
 * and paragraphs [Unicode, General_Category].
 */
const unseen = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  if (!unseen.test(character)) return character;
  const code = character.codePointAt(0) ?? 0;
  const digits = code.toString(16);
  const long = code > 0xffff ? `\\u{${digits}}` : `\\u${digits.padStart(4, '0')}`;
  return shortEscapes[character] ?? long;
}

/** Values that lie deeper in lists and fields are not shown. */
const depthMax = 4;

/** The symbols of a value: characters and escapes, each of which is shown as a whole. */
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
  // Unlike Object.entries, this begins without a list of all fields.
  for (const key in fields) {
    if (!isFirst) yield ',';
    isFirst = false;
    yield* symbolsOfText(key);
    yield ':';
    yield* symbolsOf((fields as Readonly<Record<string, unknown>>)[key], depth + 1);
  }
  yield '}';
}

/** As YAML writes numbers: JSON would write `null` for those that are not finite. */
function numberInYaml(value: number): string {
  if (Number.isNaN(value)) return '.nan';
  return Number.isFinite(value) ? String(value) : value > 0 ? '.inf' : '-.inf';
}

/** The first symbols that fit into a length. */
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

/** The last symbols that fit into a length. */
function takeLast(symbols: readonly string[], lengthMax: number): string {
  let length = 0;
  let from = symbols.length;
  for (; from > 0; from--) {
    length += symbols[from - 1]?.length ?? 0;
    if (length > lengthMax) break;
  }
  return symbols.slice(from).join('');
}
