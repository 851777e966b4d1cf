import { performance } from 'node:perf_hooks';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { fastMxu, type MxuCall, mxuWorkspaceBytes } from '../../src/chip/mxu.ts';
import { fusedPeakSample } from './peak.ts';
import type { BenchRow } from './row.ts';

export interface MatmulBenchOptions {
  /** Number of samples of each shape. The result is their median. */
  readonly samples?: number;
  /** Measures only shapes whose names contain this text. */
  readonly only?: string;
  /** False selects the build of the kernel without fused multiply-adds. Default: true. */
  readonly relaxed?: boolean;
}

/** A dense operand with the layout [rows, depth], or [depth, rows] if `turned` (transposed). */
interface Matrix {
  readonly kind: 'matrix';
  readonly turned: boolean;
}
/**
 * The left operand of a convolution that runs as a matmul. Each row has the elements of one 3×3
 * window of an image. The rows are in the order of the images and, within an image, of the windows.
 * Within a row the elements are in the order of their places in the window and, within a place, of
 * the features.
 */
interface Windows {
  readonly kind: 'windows';
  readonly images: number;
  readonly height: number;
  readonly width: number;
  readonly features: number;
  /**
   * True if the operand is transposed, so that each window is a column, as in a weight gradient.
   */
  readonly turned: boolean;
}

interface Shape {
  readonly name: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly segments: number;
  readonly lhs: Matrix | Windows;
  readonly rhs: Matrix;
  /** Share of the values of `lhs` that are not zero. After a ReLU it is less than 1. Default: 1. */
  readonly lhsDensity?: number;
  readonly rhsDensity?: number;
}

const straight: Matrix = { kind: 'matrix', turned: false };
const turned: Matrix = { kind: 'matrix', turned: true };

function dense(
  name: string,
  m: number,
  n: number,
  k: number,
  lhs = straight,
  rhs = straight,
): Shape {
  return { name, m, n, k, segments: 1, lhs, rhs };
}
function windows(images: number, size: number, features: number, isTurned = false): Windows {
  return { kind: 'windows', images, height: size, width: size, features, turned: isTurned };
}
function convolution(name: string, n: number, lhs: Windows): Shape {
  const places = lhs.images * (lhs.height - 2) * (lhs.width - 2);
  const taps = 9 * lhs.features;
  const [m, k] = lhs.turned ? [taps, places] : [places, taps];
  return { name, m, n, k, segments: 1, lhs, rhs: straight };
}

/**
 * Matmuls to measure: three cubes (m = n = k), and the matmuls that one of eight Cloud TPUs runs in
 * a training step of `mlp` or `cnn`.
 */
const shapes: readonly Shape[] = [
  dense('256³', 256, 256, 256),
  dense('512³', 512, 512, 512),
  dense('1024³', 1024, 1024, 1024),
  dense('mlp dense1 forward', 128, 512, 784),
  { ...dense('mlp dense1 weight gradient', 784, 512, 16, turned), segments: 2 },
  dense('mlp dense2 forward', 128, 10, 512),
  dense('mlp dense2 input gradient', 128, 512, 10, straight, turned),
  convolution('cnn conv1 forward', 32, windows(32, 28, 1)),
  convolution('cnn conv2 forward', 64, windows(32, 26, 32)),
  convolution('cnn conv2 input gradient', 32, windows(32, 28, 64)),
  convolution('cnn conv2 weight gradient', 64, windows(4, 26, 32, true)),
  convolution('cnn conv1 weight gradient', 32, windows(4, 28, 1, true)),
  dense('cnn dense1 forward', 32, 128, 9216),
  dense('cnn dense1 input gradient', 32, 9216, 128, straight, turned),
  { ...dense('cnn dense1 weight gradient', 9216, 128, 4, turned), segments: 2 },
  // The shares of nonzero values are like those in training. After a ReLU about half of the values
  // are not zero. The gradient that comes back through a max-pool and a ReLU has fewer: only about
  // a seventh are not zero, because the max-pool passes a gradient to one of four values.
  {
    ...convolution('cnn conv2 forward, sparse, zeros counted', 64, windows(32, 26, 32)),
    lhsDensity: 0.5,
  },
  {
    ...convolution('cnn conv2 input gradient, sparse, zeros counted', 32, windows(32, 28, 64)),
    lhsDensity: 0.14,
  },
  {
    ...convolution(
      'cnn conv2 weight gradient, sparse, zeros counted',
      64,
      windows(4, 26, 32, true),
    ),
    lhsDensity: 0.5,
    rhsDensity: 0.16,
  },
];

/**
 * Smallest number of operations in a sample. A long sample depends little on the state of the
 * caches at its start.
 */
const operationsOfSample = 2e8;

/**
 * Measures the GF/s of the fast MXU with bf16 multiplicands, on one thread. The limit is the
 * 128-bit FMA peak of this machine. Two groups of matmuls are measured, first the cubes (m = n =
 * k), then the matmuls of the networks. In each group, samples of the peak alternate with samples
 * of the matmuls.
 */
export async function run(options: MatmulBenchOptions = {}): Promise<BenchRow[]> {
  const { only = '' } = options;
  const chosen = shapes.filter(({ name }) => name.includes(only));
  const isCube = ({ name }: Shape): boolean => name.endsWith('³');
  return [chosen.filter(isCube), chosen.filter((shape) => !isCube(shape))].flatMap((group) =>
    group.length === 0 ? [] : measure(group, options),
  );
}

function measure(group: readonly Shape[], options: MatmulBenchOptions): BenchRow[] {
  const { samples = 40, relaxed = true } = options;
  const memory = new WebAssembly.Memory({ initial: 1024, maximum: 65536, shared: true });
  const canFuse = enableRelaxedSimd();
  const mxu = fastMxu(memory, { relaxed: relaxed && canFuse }, 0);
  const reserve = reserveIn(memory);
  const runs = group.map((shape) => {
    const call = placed(shape, memory, reserve);
    const operations = 2 * shape.m * shape.n * shape.k * shape.segments;
    const rounds = Math.ceil(operationsOfSample / operations);
    return {
      name: `matmul ${shape.name} ${shape.m}×${shape.n}×${shape.k}${shape.segments > 1 ? `×${shape.segments}` : ''}`,
      operations: operations * rounds,
      run: () => {
        for (let round = 0; round < rounds; round++) mxu.multiply(call);
      },
    };
  });
  const peak = canFuse ? [{ name: 'peak', ...fusedPeakSample(memory) }] : [];
  const [peakRate, ...rates] = rated([...peak, ...runs], samples);
  const limit = canFuse ? peakRate! : Number.NaN;
  return (canFuse ? rates : [peakRate!, ...rates]).map((value, i) => ({
    name: runs[i]!.name,
    value,
    unit: 'GF/s',
    limit,
    limitName: '128-bit FMA peak',
    higherIsBetter: true,
  }));
}

interface Timed {
  readonly operations: number;
  run(): void;
}

/**
 * Returns the median rate of each of `runs`, in 10^9 operations per second. The samples of all runs
 * alternate, so that the load of other programs disturbs all runs equally.
 */
function rated(runs: readonly Timed[], samples: number): number[] {
  const repeats = runs.map(({ operations }) => Math.max(1, Math.round(2e7 / operations)));
  const rates = runs.map(() => [] as number[]);
  for (let sample = -3; sample < samples; sample++) {
    runs.forEach((it, i) => {
      const start = performance.now();
      for (let r = 0; r < repeats[i]!; r++) it.run();
      const seconds = (performance.now() - start) / 1000;
      if (sample >= 0) rates[i]!.push((it.operations * repeats[i]!) / seconds / 1e9);
    });
  }
  return rates.map(median);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Reserves `words` words of memory and returns their address, aligned to 64 bytes. */
type Reserve = (words: number) => number;

function reserveIn(memory: WebAssembly.Memory): Reserve {
  let end = mxuWorkspaceBytes;
  return (words) => {
    const at = end;
    end += Math.ceil(words / 16) * 64;
    memory.grow(Math.max(0, Math.ceil((end - memory.buffer.byteLength) / 65536)));
    return at;
  };
}

function placed(
  { m, n, k, segments, lhs, rhs, lhsDensity = 1, rhsDensity = 1 }: Shape,
  memory: WebAssembly.Memory,
  reserve: Reserve,
): MxuCall {
  const left = lhs.kind === 'matrix' ? matrixTables(lhs, m, k) : windowTables(lhs);
  const right = matrixTables({ kind: 'matrix', turned: !rhs.turned }, n, k);
  const put = (values: Int32Array): number => {
    const at = reserve(values.length);
    new Int32Array(memory.buffer, at, values.length).set(values);
    return at;
  };
  const data = (count: number, density: number): number => {
    const at = reserve(count);
    const view = new Float32Array(memory.buffer, at, count);
    for (let i = 0; i < count; i++) {
      const kept = Math.imul(i ^ (i >>> 5), 0x85eb_ca6b) >>> 0 < density * 2 ** 32;
      view[i] = kept ? ((Math.imul(i, 0x9e37_79b1) >>> 8) - 2 ** 23) / 2 ** 22 : 0;
    }
    return at;
  };
  return {
    m,
    n,
    k,
    segments,
    multiplicands: 'bf16',
    rowOffsets: put(left.lanes),
    lhsDepthOffsets: put(left.depths),
    columnOffsets: put(right.lanes),
    rhsDepthOffsets: put(right.depths),
    lhs: data(left.words * segments, lhsDensity),
    rhs: data(right.words * segments, rhsDensity),
    lhsSegmentStride: left.words * 4,
    rhsSegmentStride: right.words * 4,
    result: reserve(m * n),
  };
}

interface Tables {
  readonly lanes: Int32Array;
  readonly depths: Int32Array;
  readonly words: number;
}

function matrixTables(matrix: Matrix, lanes: number, depth: number): Tables {
  const strides = matrix.turned ? [1, lanes] : [depth, 1];
  const affine = (count: number, stride: number) =>
    Int32Array.from({ length: count }, (_, i) => i * stride);
  return {
    lanes: affine(lanes, strides[0]!),
    depths: affine(depth, strides[1]!),
    words: lanes * depth,
  };
}

function windowTables({ images, height, width, features, turned }: Windows): Tables {
  const places: number[] = [];
  for (let image = 0; image < images; image++) {
    for (let y = 0; y < height - 2; y++) {
      for (let x = 0; x < width - 2; x++)
        places.push(((image * height + y) * width + x) * features);
    }
  }
  const taps: number[] = [];
  for (let y = 0; y < 3; y++) {
    for (let i = 0; i < 3 * features; i++) taps.push(y * width * features + i);
  }
  const [lanes, depths] = turned ? [taps, places] : [places, taps];
  const words = images * height * width * features;
  return { lanes: Int32Array.from(lanes), depths: Int32Array.from(depths), words };
}
