import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Direction } from '../../src/fabric/torus.ts';
import {
  chipCount,
  chipsOf,
  flatTorus,
  formatTopology,
  linkCount,
  linkName,
  neighbour,
  opposite,
  parseLinkName,
  parseTopology,
  placement,
  podTorus,
  standardGrid,
} from '../../src/fabric/torus.ts';

const topologies = fc.record({
  columns: fc.integer({ min: 1, max: 8 }),
  rows: fc.integer({ min: 1, max: 8 }),
});

describe('torus', () => {
  it('has an opposite link for each link, which leads back', () => {
    fc.assert(
      fc.property(topologies, fc.nat(), fc.nat({ max: 3 }), (topology, at, way) => {
        const torus = podTorus(topology);
        const chip = at % chipCount(torus);
        const direction = way as Direction;
        const there = neighbour(torus, chip, direction);
        expect(neighbour(torus, there, opposite(direction))).toBe(chip);
      }),
    );
  });

  it('makes every axis a ring', () => {
    const torus = flatTorus(5, 3);
    const walk = (direction: Direction, hops: number): number => {
      let chip = 7;
      for (let hop = 0; hop < hops; hop++) chip = neighbour(torus, chip, direction);
      return chip;
    };
    expect([walk(0, 5), walk(1, 5), walk(2, 3), walk(3, 3)]).toEqual([7, 7, 7, 7]);
    expect([walk(0, 3), walk(1, 3), walk(2, 2), walk(3, 2)]).toEqual([5, 9, 2, 12]);
  });

  it('finds every link by its name', () => {
    fc.assert(
      fc.property(topologies, fc.nat(), (topology, at) => {
        const torus = podTorus(topology);
        const link = at % linkCount(torus);
        expect(parseLinkName(torus, linkName(torus, link))).toBe(link);
      }),
    );
    expect(linkName(podTorus({ columns: 4, rows: 2 }), (1 * 8 + 3) * 4)).toBe('chip(3,1)+x');
  });

  it('puts four chips on each Cloud TPU, numbered as 2×2', () => {
    const torus = podTorus({ columns: 4, rows: 2 });
    expect(torus).toMatchObject({ width: 8, height: 4, workers: 8 });
    // Cloud TPU 5 is in column 1, row 1, and has the chips (2,2), (3,2), (2,3), (3,3). Chip (x,y)
    // has the number 8y + x.
    expect(chipsOf(torus, 5)).toEqual([18, 19, 26, 27]);
    expect(placement(torus, 26)).toEqual({ worker: 5, index: 2 });
  });

  it('has the standard grids', () => {
    const grids = [1, 2, 4, 8, 16, 32, 64].map((tpus) => formatTopology(standardGrid(tpus)));
    expect(grids).toEqual(['1x1', '2x1', '2x2', '4x2', '4x4', '8x4', '8x8']);
    expect(() => standardGrid(3)).toThrow(/^3 Cloud TPUs: expected one of 1, 2, 4/);
  });

  it('parses formatted topologies and refuses other texts in one line', () => {
    fc.assert(
      fc.property(topologies, (topology) => {
        expect(parseTopology(formatTopology(topology))).toEqual(topology);
      }),
    );
    for (const text of [
      '',
      '4',
      '0x2',
      '9x1',
      '1x9',
      '4x',
      'x4',
      '4x2x1',
      '-1x2',
      '4.5x2',
      ' 4x2',
    ]) {
      expect(() => parseTopology(text)).toThrow(
        /^--topology: expected .* of Cloud TPUs.*, found ".*"/,
      );
    }
    const torus = flatTorus(4, 2);
    for (const name of ['chip(4,0)+x', 'chip(0,2)+x', 'chip(0,0)+z', 'chip(0,0)', '']) {
      expect(() => parseLinkName(torus, name)).toThrow(/^link "/);
    }
  });
});
