/**
 * Prints how the wall time of a training step on this machine divides among its instructions. Each
 * instruction runs alone, several times, on one emulated Cloud TPU; its median time is printed. The
 * flags are those of `pod compile`.
 *
 *   node dist/scripts/profile.js --model cnn --tpus 8
 */

import { CloudTpuCores, coreBytes } from '../src/chip/core.ts';
import { enableRelaxedSimd } from '../src/chip/engine.ts';
import { fastMxu, mxuWorkspaceBytes } from '../src/chip/mxu.ts';
import type { Ports } from '../src/chip/ports.ts';
import { vectorUnit } from '../src/chip/vector-unit.ts';
import { trainOptions } from '../src/cli/options.ts';
import { addSettingFlags } from '../src/cli/settings/command.ts';
import { type Dataset, pixelsOf } from '../src/data/dataset.ts';
import { fillScratch, fillStep } from '../src/data/fill.ts';
import { openDataset } from '../src/data/open.ts';
import { tpuBatch, trainingPlan } from '../src/data/plan.ts';
import { cloudTpus, replicasPerCloudTpu, type TrainConfig } from '../src/experiment/config.ts';
import { buildPrograms } from '../src/experiment/programs.ts';
import { quantiles } from '../src/experiment/statistics.ts';
import { plainCode } from '../src/hlo/plain-code.ts';
import { type Executable, type Instruction, phases } from '../src/isa/executable.ts';
import { at } from '../src/numerics/assert.ts';
import { byteCount } from '../src/numerics/shape.ts';
import { milliseconds, table } from '../src/observe/format.ts';
import { commandOf } from './command.ts';

/**
 * Usual number of timed runs of an instruction. A fast instruction runs more often: until
 * `samplesMs` have passed, but at most 100 times. A slow instruction stops when `samplesMs` have
 * passed, but runs at least three times.
 */
const samples = 9;
/** Time, in ms, for the timed runs of one instruction. */
const samplesMs = 400;

addSettingFlags(commandOf('profile'), 'compile').action(main).parse();

function main(flags: Record<string, unknown>): void {
  const { config } = trainOptions(flags);
  const dataset = openDataset(config.data, config.seed);
  const { train, initialValues } = buildPrograms(config, dataset, 100);
  const rows = profile(train, initialValues, batchOf(config, dataset.train));
  const total = rows.reduce((sum, row) => sum + row.ms, 0);
  const lines = rows.map(({ it, ms }) => [
    `${it.phase.padEnd(10)} ${it.unit.padEnd(5)} ${it.name}`,
    milliseconds(ms),
    `${((100 * ms) / total).toFixed(1)} %`,
    rateOf(train, it, ms),
  ]);
  lines.push(['all, one Cloud TPU', milliseconds(total), '', '']);
  process.stdout.write(`${table(lines).join('\n')}\n`);
}

/**
 * What the infeed of Cloud TPU 0 delivers at the first step. The images are real: with images of
 * zeros the matmul kernel would be faster than in training.
 */
interface Batch {
  readonly images: Float32Array;
  readonly labels: Int32Array;
}

function batchOf(config: TrainConfig, dataset: Dataset): Batch {
  const { globalBatch, seed } = config;
  const tpus = cloudTpus(config);
  const slice = { size: dataset.size, globalBatch, replicasPerTpu: replicasPerCloudTpu, tpus };
  const plan = trainingPlan(slice, seed);
  const count = tpuBatch(plan);
  const images = new Float32Array(count * pixelsOf(dataset));
  const labels = new Int32Array(count);
  fillStep(dataset, plan, 0, 0, images, labels, fillScratch(dataset, plan));
  return { images, labels };
}

interface Row {
  readonly it: Instruction;
  readonly ms: number;
}

function profile(executable: Executable, values: readonly Uint8Array[], batch: Batch): Row[] {
  const workspace = 128;
  const base = workspace + Math.ceil(mxuWorkspaceBytes / 64) * 64;
  const feed = Math.ceil((base + coreBytes(executable)) / 64) * 64;
  const { images, labels } = batch;
  const pages = Math.ceil((feed + images.byteLength + labels.byteLength) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  const mxu = fastMxu(memory, { relaxed: enableRelaxedSimd() }, workspace);
  const units = { memory, mxu, vector: vectorUnit(memory), rowsPerCall: () => 1 << 20, plainCode };
  new Float32Array(memory.buffer, feed, images.length).set(images);
  new Int32Array(memory.buffer, feed + images.byteLength, labels.length).set(labels);
  const elementBytes = executable.infeed.map(byteCount);
  const elementAt = [feed, feed + images.byteLength];
  const ports: Ports = {
    infeed: {
      address: (element, core) => at(elementAt, element) + core * at(elementBytes, element),
      release: () => undefined,
    },
    outfeed: { send: () => undefined },
    ici: { start: () => undefined, progress: () => false, finish: () => undefined },
    beat: () => undefined,
  };
  const phaseMs = new Float64Array(phases.length);
  const whole = new CloudTpuCores(executable, base, units);
  for (const [i, value] of values.entries()) whole.writeParameter(i, value);
  whole.run(ports, now, phaseMs);
  return executable.instructions.map((it) => {
    const cores = new CloudTpuCores({ ...executable, instructions: [it] }, base, units);
    return { it, ms: median(() => cores.run(ports, now, phaseMs)) };
  });
}

function median(run: () => void): number {
  run();
  const times: number[] = [];
  const end = now() + samplesMs;
  while (times.length < samples || (times.length < 100 && now() < end)) {
    const since = now();
    run();
    times.push(now() - since);
    if (now() > end && times.length >= 3) break;
  }
  return quantiles(times).p50;
}

function rateOf({ buffers, cores }: Executable, it: Instruction, ms: number): string {
  if (it.unit === 'mxu') {
    const { m, n, k, batch } = it.matmul;
    const gflops = (2 * m * n * k * batch * cores) / ms / 1e6;
    return `${gflops.toFixed(0)} GF/s  ${m}×${n}×${k}`;
  }
  if (it.unit === 'plain') return `plain code: ${it.reason}`;
  if (it.unit === 'vpu') {
    const copies = { shared: 1, chip: cores / 2, core: cores };
    const moved = [...it.sources, ...it.targets].reduce((sum, id) => {
      const buffer = at(buffers, id);
      return sum + buffer.bytes * copies[buffer.copies];
    }, 0);
    return `${(moved / ms / 1e6).toFixed(1)} GB/s`;
  }
  return '';
}

function now(): number {
  return performance.now();
}
