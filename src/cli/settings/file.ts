import { isMap, isScalar, type Pair, type ParsedNode, parseDocument, type YAMLMap } from 'yaml';
import { readText } from '../../files/text.ts';
import { excessIn, yamlTrouble } from '../../files/yaml.ts';
import { messageOf, PodError } from '../../numerics/error.ts';
import { quote } from '../../numerics/quote.ts';
import { tildeAdvice } from './checks.ts';
import { isSettingKey, type SettingKey } from './schema.ts';
import { type RawValue, type Source, shortened, unknownSetting } from './source.ts';

/** Largest file of settings, in bytes. A file with every setting and a comment on each has 4 KB. */
const bytesMax = 2 ** 15;
/** Largest number of YAML aliases that are expanded in one value. */
const aliasesMax = 100;
/**
 * Largest number of YAML tokens in a file, not counting comments and white space. A file with all
 * settings, about thirty, has about a hundred tokens.
 */
const tokensMax = 2000;

/**
 * Reads settings from a YAML file. A key is the name of a setting, either in camelCase
 * (`globalBatch`) or as in its flag (`global-batch`).
 *
 * @throws PodError `bad-config` if the file is missing, too large or not a valid file of settings;
 * `io` if the system refuses to open or read the file.
 */
export function sourceOfFile(file: string): Source {
  const text = read(file);
  const document = parse(file, text);
  const { contents } = document;
  if (!isMap<ParsedNode, ParsedNode | null>(contents)) {
    const found = contents === null ? 'nothing' : shortened(text);
    const expected = 'settings such as "model: cnn", one on each line';
    throw wrong(file, `expected ${expected}, found ${found}`);
  }
  return { values: valuesOf(file, text, contents, document), kind: 'file' };
}

type Document = ReturnType<typeof parseDocument>;
type Item = Pair<ParsedNode, ParsedNode | null>;

function valuesOf(
  file: string,
  text: string,
  { items }: YAMLMap<ParsedNode, ParsedNode | null>,
  document: Document,
): ReadonlyMap<SettingKey, RawValue> {
  const values = new Map<SettingKey, RawValue>();
  for (const item of items) {
    const name = isScalar(item.key) ? String(item.key.value) : sourceText(text, item.key);
    const key = camel(name);
    const origin = `${shortened(name)} in ${file}`;
    if (!isSettingKey(key)) throw unknownSetting(origin);
    const before = values.get(key);
    if (before !== undefined) {
      const again =
        before.origin === origin ? 'given twice' : `the same setting as ${before.origin}`;
      throw wrong(file, `${shortened(name)}: ${again}; leave one out`);
    }
    values.set(key, { ...readValue(file, text, item, document), origin });
  }
  return values;
}

function readValue(
  file: string,
  text: string,
  { value: node }: Item,
  document: Document,
): Pick<RawValue, 'value' | 'written'> {
  if (node === null) return { value: null, written: 'nothing' };
  const value = attempt(file, () => node.toJS(document, { maxAliasCount: aliasesMax }) as unknown);
  const written = typeof value === 'string' ? quote(value) : sourceText(text, node);
  return { value, written: written === '' ? 'nothing' : written };
}

/** Returns the text of the parsed value `node` as it is in the file, shortened for messages. */
function sourceText(text: string, node: ParsedNode | null): string {
  const [start, end] = node?.range ?? [0, 0];
  return shortened(text.slice(start, end));
}

function read(file: string): string {
  const contents = readText(file, bytesMax);
  if (contents.kind === 'text') return contents.text;
  const expected = `expected a YAML file, found ${contents.found}`;
  if (contents.kind === 'not-text') throw wrong(file, expected, contents.cause);
  const code = contents.kind === 'refused' && contents.cause !== undefined ? 'io' : 'bad-config';
  const advice = file.startsWith('~') ? `; ${tildeAdvice}` : '';
  throw new PodError(code, `--config ${file}: ${expected}${advice}`);
}

function parse(file: string, text: string): Document {
  const excess = excessIn(text, tokensMax);
  if (excess !== undefined) throw wrong(file, `expected settings, found ${excess}`);
  // `valuesOf` finds repeated keys. The parser's own search for them, `uniqueKeys`, is off: it
  // compares all pairs of keys, which takes minutes for a large file.
  const document = parseDocument(text, { uniqueKeys: false, logLevel: 'error' });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem === undefined) return document;
  throw wrong(file, yamlTrouble(problem), problem);
}

function attempt<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw wrong(file, yamlTrouble({ message: messageOf(cause) }), cause);
  }
}

function wrong(file: string, what: string, cause?: unknown): PodError {
  return new PodError('bad-config', `--config ${file}: ${what}`, cause);
}

function camel(key: string): string {
  return key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
