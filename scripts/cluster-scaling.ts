/**
 * Prints the figures of docs/SCALING.md: traffic, memory and number of hops of a step, for pods of
 * several sizes with one process for each Cloud TPU. The figures come from formulas that tests
 * compare with the program itself.
 *
 *   npm run compile && node dist/scripts/cluster-scaling.js
 */
import { pack } from 'msgpackr';
import { headerBytes } from '../cluster/net/frame.ts';
import { frameElementsMax } from '../cluster/net/route.ts';
import { coreBytes } from '../src/chip/core.ts';
import { trainOptions } from '../src/cli/options.ts';
import { openDataset } from '../src/data/open.ts';
import { buildPrograms } from '../src/experiment/programs.ts';
import { linkBytesFormula } from '../src/fabric/link-bytes.ts';
import { laneCount, laneDirection, longestPart } from '../src/fabric/part.ts';
import {
  axisLength,
  axisOf,
  type Direction,
  directions,
  neighbour,
  placement,
  podTorus,
} from '../src/fabric/torus.ts';
import { phases } from '../src/isa/executable.ts';
import { byteCount } from '../src/numerics/shape.ts';
import { bytes, count, milliseconds, table } from '../src/observe/format.ts';
import type { FromWorker, ToWorker } from '../src/pod/messages.ts';
import { iciBytesPerSecondPerLink, tpuV2 } from '../src/spec/tpu-v2.ts';
import { script } from './command.ts';

const grids = [
  { columns: 4, rows: 2 },
  { columns: 8, rows: 8 },
  { columns: 32, rows: 16 },
  { columns: 64, rows: 64 },
];
type Grid = (typeof grids)[number];

const headings = grids.map(({ columns, rows }) => count(columns * rows));
const show = (lines: readonly (readonly string[])[]): void => {
  process.stdout.write(`${table(lines).join('\n')}\n\n`);
};

script('cluster-scaling', 'print the figures of docs/SCALING.md', '').parse();
show([
  ['Cloud TPUs', ...headings],
  row('chips', ({ columns, rows }) => `${2 * columns}×${2 * rows}`),
  row('hops of a chunk, there and back', (grid) => count(hops(grid))),
  row('time of these hops on the hardware', (grid) => milliseconds(hopMs(grid))),
  row('connections of the master', ({ columns, rows }) => count(columns * rows)),
  row('messages of the master, a step', ({ columns, rows }) => count(2 * columns * rows)),
  row('bytes of these messages', ({ columns, rows }) => bytes(columns * rows * messageBytes())),
  row('member entries copied by the master, a step', ({ columns, rows }) =>
    count((columns * rows) ** 2),
  ),
]);
for (const model of ['mlp', 'cnn'] as const) show(sectionOf(model, programOf(model)));
show(sectionOf('ResNet-50', { elements: 25_557_032 }));

function sectionOf(
  name: string,
  { elements, memory }: { readonly elements: number; readonly memory?: number },
): string[][] {
  return [
    [`${name}: ${bytes(4 * elements)} of gradients`, ...headings],
    row('most bytes on a link, a step', (grid) => bytes(traffic(grid, elements).link)),
    row('most bytes out of a node, a step', (grid) => bytes(traffic(grid, elements).node)),
    row('frames out of a node, a step', (grid) => count(traffic(grid, elements).frames)),
    row('mean payload of a frame', (grid) => bytes(Math.round(meanFrame(grid, elements)))),
    row('share of headers', (grid) => percentOf(headerBytes, meanFrame(grid, elements))),
    row('time of these bytes on the hardware', (grid) => milliseconds(linkMs(grid, elements))),
    ...(memory === undefined ? [] : [row('arenas of a node', () => bytes(memory))]),
  ];
}

function row(name: string, of: (grid: Grid) => string): string[] {
  return [name, ...grids.map(of)];
}

/**
 * Number of hops that one chunk of the gradients makes in an all-reduce. In a ring of n chips a
 * chunk makes n − 1 hops. The rings have 2·columns chips along X and 2·rows chips along Y, because
 * a Cloud TPU is two chips wide and two chips high. A chunk goes along both axes twice: once in the
 * reduce-scatter, once in the all-gather.
 */
function hops({ columns, rows }: Grid): number {
  return 2 * (2 * columns - 1) + 2 * (2 * rows - 1);
}

function hopMs(grid: Grid): number {
  return hops(grid) * tpuV2.iciHopSeconds * 1000;
}

function linkMs(grid: Grid, elements: number): number {
  return (traffic(grid, elements).link / iciBytesPerSecondPerLink) * 1000;
}

interface Traffic {
  readonly link: number;
  readonly node: number;
  readonly frames: number;
}

/**
 * Returns the traffic of a step: the bytes on the busiest link, and the bytes and frames that the
 * busiest node sends to other nodes. A node is the process of one Cloud TPU. It sends to other
 * nodes over eight links.
 */
function traffic(grid: Grid, elements: number): Traffic {
  const torus = podTorus(grid);
  const nodes = new Float64Array(torus.workers);
  let link = 0;
  for (const chip of torus.places.keys()) {
    for (const direction of directions.keys() as Iterable<Direction>) {
      const sent = linkBytesFormula(torus, elements, chip, direction);
      const [from, to] = [chip, neighbour(torus, chip, direction)].map(
        (it) => placement(torus, it).worker,
      );
      link = Math.max(link, sent);
      if (from !== to) nodes[from!]! += sent;
    }
  }
  return { link, node: Math.max(...nodes), frames: framesOf(grid, elements) };
}

/**
 * Returns how many frames a node (the process of one Cloud TPU) sends to other nodes in a step. The
 * gradients are cut into lanes. Each lane travels along both axes of the torus. For each lane and
 * axis, the number of frames is the product of four factors:
 *
 * - 2, because two of the four chips of a node send to another node;
 * - 2, for the reduce-scatter and the all-gather;
 * - n − 1, the number of chunks that a chip sends in each of these two (n is the number of chips in
 *   a ring along the axis);
 * - the number of frames of one chunk.
 */
function framesOf(grid: Grid, elements: number): number {
  const torus = podTorus(grid);
  let frames = 0;
  for (let lane = 0; lane < laneCount; lane++) {
    let range = longestPart(elements, laneCount);
    for (const turn of [0, 1] as const) {
      const ring = axisLength(torus, axisOf(laneDirection(lane, turn)));
      range = longestPart(range, ring);
      frames += 2 * 2 * (ring - 1) * Math.ceil(range / frameElementsMax);
    }
  }
  return frames;
}

function meanFrame(grid: Grid, elements: number): number {
  const { node, frames } = traffic(grid, elements);
  return node / frames;
}

function percentOf(part: number, rest: number): string {
  return `${((100 * part) / (part + rest)).toFixed(1)} %`;
}

/**
 * Bytes of the two messages that the master and one Cloud TPU exchange for a step, packed as on the
 * wire: the order to run the step, and the report of its result.
 */
function messageBytes(): number {
  const order: ToWorker = {
    ...{ kind: 'start-step', generation: 1000, program: 0, step: 100_000 },
    takeParameters: false,
  };
  const report: FromWorker = {
    ...{ kind: 'step-done', generation: 1000, tpu: 4095, program: 0, step: 100_000 },
    ...{ digest: 'f'.repeat(16), outfeed: [new Uint8Array(32), new Uint8Array(32)] },
    phaseMs: phases.map(() => 12.345),
    linkWaitMs: Array.from({ length: 8 }, () => 12.345),
  };
  return pack(order).length + pack(report).length;
}

/**
 * Returns two figures of a model: the number of gradient elements, which equals the number of
 * weights, and the bytes of memory of one node. Neither depends on the size of the pod.
 */
function programOf(model: string): { readonly elements: number; readonly memory: number } {
  const { config } = trainOptions({ model, tpus: 8 });
  const dataset = openDataset(config.data, config.seed);
  const { train, evaluate, weights, initialValues } = buildPrograms(config, dataset, 100);
  const held = initialValues.slice(0, weights).reduce((sum, { length }) => sum + length, 0);
  const infeed = 4 * 8 * Math.max(...[train, evaluate].map((it) => sum(it.infeed.map(byteCount))));
  return { elements: held / 4, memory: coreBytes(train) + coreBytes(evaluate) + infeed };
}

function sum(values: readonly number[]): number {
  return values.reduce((all, it) => all + it, 0);
}
