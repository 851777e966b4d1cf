import { assert } from '../numerics/assert.ts';

/** An element of SVG or HTML. */
export interface Element {
  readonly name: string;
  readonly attributes: Attributes;
  readonly children: readonly Markup[];
}

/** A piece of SVG or HTML: an element, or a text that is escaped when it is written. */
export type Markup = Element | string;

/**
 * Attributes of an element. An attribute whose value is undefined is left out. Numbers must be
 * finite.
 */
export type Attributes = Readonly<Record<string, string | number | undefined>>;

/** Returns an element. `name` and the names of attributes come from the program, never from data. */
export function element(
  name: string,
  attributes: Attributes = {},
  ...children: readonly Markup[]
): Element {
  return { name, attributes, children };
}

/** Returns an SVG `title`, which browsers show while the pointer is over the parent element. */
export function hint(text: string): Element {
  return element('title', {}, text);
}

/**
 * Returns the text of a piece of markup. The text is well-formed as XML and also valid as HTML. All
 * text and all values of attributes are escaped, so they may come from data that is not trusted.
 */
export function markupText(markup: Markup): string {
  const parts: string[] = [];
  write(markup, parts);
  return parts.join('');
}

/** Returns the text of a whole HTML document. `root` is the element `html` of the document. */
export function documentText(root: Element): string {
  return `<!DOCTYPE html>\n${markupText(root)}\n`;
}

/** Formats a coordinate or a length in px, with at most two decimals. */
export function px(value: number): string {
  assert(Number.isFinite(value), `expected a finite number, found ${value}`);
  return String(Math.round(value * 100) / 100 + 0);
}

/** Elements of HTML that have no end tag. */
const voidElements = new Set(['br', 'hr', 'link', 'meta']);

const namePattern = /^[A-Za-z][A-Za-z0-9-]*$/;

function write(markup: Markup, parts: string[]): void {
  if (typeof markup === 'string') {
    parts.push(escapedText(markup));
    return;
  }
  const { name, attributes, children } = markup;
  assert(namePattern.test(name), `${name} is no name of an element`);
  parts.push('<', name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    assert(namePattern.test(key), `${key} is no name of an attribute`);
    parts.push(' ', key, '="', typeof value === 'number' ? px(value) : escapedText(value), '"');
  }
  if (voidElements.has(name)) {
    assert(children.length === 0, `${name} has no children`);
    parts.push('/>');
    return;
  }
  parts.push('>');
  for (const child of children) write(name === 'style' ? styleText(child) : child, parts);
  parts.push('</', name, '>');
}

/**
 * Returns the text of a style sheet unchanged. It must not be escaped, because HTML does not decode
 * escapes in a style sheet. XML does decode them. So a style sheet must not contain any character
 * that needs an escape.
 */
function styleText(css: Markup): Markup {
  assert(
    typeof css === 'string' && escapedText(css) === css,
    'a style sheet without <, >, & and quotes',
  );
  return css;
}

const escapes: Readonly<Record<string, string>> = {
  ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' },
};

/**
 * Characters that XML does not allow: control characters, unpaired surrogates and two
 * noncharacters. [XML 1.0, 2.2 Characters]
 */
const notInXml = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

function escapedText(text: string): string {
  return text.replace(notInXml, '\ufffd').replace(/[&<>"']/g, (found) => escapes[found] ?? found);
}
