import { pictureWidth } from './frame.ts';
import { type Element, element } from './markup.ts';
import { type MarkLook, markAt } from './shape.ts';
import { type SpanLook, spanBox } from './span.ts';

/** An entry of a legend: the look of a mark or of a span, and its meaning. */
export type LegendEntry =
  | { readonly mark: MarkLook; readonly text: string }
  | { readonly span: SpanLook; readonly text: string };

/** A legend that was drawn, and its height in px. */
export interface Legend {
  readonly drawn: Element;
  readonly height: number;
}

const rowPx = 20;
/**
 * Estimated width of a character of a legend, in px. The estimate is rather too large than too
 * small, so that entries do not overlap.
 */
const characterPx = 6.8;
const besideText = 20;
const betweenEntries = 22;

/**
 * Draws a legend, in as many rows as needed. The legend extends from `left` to the right edge of
 * the picture, and from `top` down. `left` and `top` are in px. `id` is the name of the picture.
 */
export function legend(
  id: string,
  entries: readonly LegendEntry[],
  left: number,
  top: number,
): Legend {
  let x = left;
  let y = top + rowPx / 2;
  const drawn = entries.map((entry) => {
    const width = besideText + entry.text.length * characterPx;
    if (x > left && x + width > pictureWidth) {
      x = left;
      y += rowPx;
    }
    const at = x;
    x += width + betweenEntries;
    const sample =
      'mark' in entry
        ? markAt(entry.mark, at + 7, y)
        : spanBox(id, entry.span, { x: at, y: y - 6, width: 14, height: 12 });
    return element('g', {}, sample, element('text', { x: at + besideText, y: y + 4 }, entry.text));
  });
  const height = entries.length === 0 ? 0 : y + rowPx / 2 - top;
  return { drawn: element('g', {}, ...drawn), height };
}
