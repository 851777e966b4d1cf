/** An element of a parsed XML document. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly (XmlElement | string)[];
}

const namePart = '[A-Za-z][A-Za-z0-9-]*';
const token = new RegExp(
  `<(${namePart})((?: ${namePart}="[^"<]*")*)(/?)>|</(${namePart})>|([^<]+)`,
  'y',
);

/**
 * Parses the subset of XML that pictures have. Throws if the text is not well-formed: if tags do
 * not match, if an element has an attribute twice, if `&` or `<` is not escaped, or if the text has
 * a character that XML forbids.
 */
export function parseXml(text: string): XmlElement {
  if (/[^\t\n\r -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u.test(text)) {
    throw new Error('a character that XML forbids');
  }
  const root = { name: '', attributes: {}, children: [] as (XmlElement | string)[] };
  const open = [root];
  for (token.lastIndex = 0; token.lastIndex < text.length; ) {
    const at = token.lastIndex;
    const match = token.exec(text);
    if (match === null) throw new Error(`no markup: ${JSON.stringify(text.slice(at, at + 60))}`);
    const [, name, attributes = '', empty, ended, plain] = match;
    const parent = open.at(-1) ?? root;
    if (plain !== undefined) parent.children.push(unescaped(plain));
    if (ended !== undefined && open.pop()?.name !== ended) throw new Error(`a stray </${ended}>`);
    if (name === undefined) continue;
    const element = { name, attributes: attributesOf(attributes), children: [] };
    parent.children.push(element);
    if (empty === '') open.push(element);
  }
  const [only, ...others] = root.children;
  if (open.length !== 1 || typeof only !== 'object' || others.length > 0) {
    throw new Error(`${open.length - 1} elements are open, ${root.children.length} at the top`);
  }
  return only;
}

/** Parses an HTML page, which consists of a document type and one element. */
export function parsePage(text: string): XmlElement {
  const start = '<!DOCTYPE html>\n';
  if (!text.startsWith(start)) throw new Error('no document type');
  return parseXml(text.slice(start.length).trimEnd());
}

/** Returns all elements with the name `name`, in the order of the document. */
export function elements(root: XmlElement, name: string): readonly XmlElement[] {
  const inside = root.children.flatMap((it) => (typeof it === 'string' ? [] : elements(it, name)));
  return root.name === name ? [root, ...inside] : inside;
}

/** Returns the text of an element and of all elements in it. */
export function textOf(root: XmlElement): string {
  return root.children.map((it) => (typeof it === 'string' ? it : textOf(it))).join('');
}

/** Returns the attributes of an element and of all elements in it. */
export function attributesIn(root: XmlElement): readonly XmlElement['attributes'][] {
  const inside = root.children.flatMap((it) => (typeof it === 'string' ? [] : attributesIn(it)));
  return [root.attributes, ...inside];
}

function attributesOf(text: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [, name = '', value = ''] of text.matchAll(/ ([A-Za-z0-9-]+)="([^"]*)"/g)) {
    if (Object.hasOwn(found, name)) throw new Error(`${name} twice`);
    found[name] = unescaped(value);
  }
  return found;
}

const entities: Readonly<Record<string, string>> = {
  ...{ '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#39;': "'" },
};

function unescaped(text: string): string {
  return text.replace(/&[^;]{0,9};?/g, (found) => {
    const character = entities[found];
    if (character === undefined) throw new Error(`no entity: ${found}`);
    return character;
  });
}
