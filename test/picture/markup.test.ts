import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { documentText, element, type Markup, markupText, px } from '../../src/picture/markup.ts';
import { parseXml, textOf, type XmlElement } from './xml.ts';

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('<', '>', '&', '"', "'", ';', '\0', '\ud800', 'a', ']]>') }),
);
const name = fc.constantFrom('g', 'text', 'title', 'svg', 'td', 'foreignObject');
const attributes = fc.dictionary(fc.constantFrom('d', 'class', 'aria-label', 'x'), text);
const { tree } = fc.letrec<{ tree: Markup; node: Markup }>((tie) => ({
  node: fc.oneof({ depthSize: 'small' }, text, tie('tree')),
  tree: fc
    .tuple(name, attributes, fc.array(tie('node'), { maxLength: 4 }))
    .map(([kind, given, children]) => element(kind, given, ...children)),
}));

/** Returns a text with U+FFFD in place of each character that XML forbids. */
function allowed(it: string): string {
  return it.replace(/[^\t\n\r -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd');
}

/**
 * Returns what a parser reads from the text of `markup`. In this text, neighbouring texts cannot be
 * told apart, so they become one text. Empty texts are lost.
 */
function seen(markup: Markup): XmlElement | string {
  if (typeof markup === 'string') return allowed(markup);
  const given = Object.entries(markup.attributes).map(([key, it]) => [key, allowed(String(it))]);
  const children: (XmlElement | string)[] = [];
  for (const child of markup.children.map(seen)) {
    const last = children.at(-1);
    if (child === '') continue;
    if (typeof child === 'string' && typeof last === 'string') children.splice(-1, 1, last + child);
    else children.push(child);
  }
  return { name: markup.name, attributes: Object.fromEntries(given), children };
}

describe('markup', () => {
  test('is well-formed for any text, and a parser gets that text back', () => {
    fc.assert(
      fc.property(tree, (it) => {
        expect(parseXml(markupText(it))).toEqual(seen(it));
      }),
      { numRuns: 500 },
    );
  });

  test('refuses names from data, numbers that are not finite, and styles that would end early', () => {
    expect(() => markupText(element('a b'))).toThrow(/no name of an element/);
    expect(() => markupText(element('g', { 'x"': 1 }))).toThrow(/no name of an attribute/);
    expect(() => markupText(element('g', { x: Number.NaN }))).toThrow(/finite/);
    expect(() => px(Number.POSITIVE_INFINITY)).toThrow(/finite/);
    expect(() => markupText(element('style', {}, 'a{}</style>'))).toThrow(/style sheet/);
  });

  test('has void elements without end tags, and end tags for all others, as HTML needs', () => {
    const page = documentText(
      element('html', {}, element('meta', { charset: 'utf-8' }), element('p')),
    );
    expect(page).toBe('<!DOCTYPE html>\n<html><meta charset="utf-8"/><p></p></html>\n');
  });
});

test('the parser of these tests refuses what is not well-formed', () => {
  for (const wrong of [
    ...['<a>', '<a></b>', '<a>&</a>', '<a>&nbsp;</a>', '<a b=c></a>', '<a b="1" b="2"></a>'],
    ...['<a></a><b></b>', '<a><</a>', '<a b="<"></a>', '<a>\0</a>', '<a>\ud800</a>', 'text', ''],
  ]) {
    expect(() => parseXml(wrong), wrong).toThrow();
  }
  expect(textOf(parseXml('<a>x &lt; <b>y</b></a>'))).toBe('x < y');
});
