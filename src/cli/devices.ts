import type { Command } from 'commander';
import { formatTopology, type Grid } from '../fabric/torus.ts';
import { table } from '../observe/format.ts';
import { sliceFigures, tpuV2 } from '../spec/tpu-v2.ts';
import { addSettingFlags, refuseRepeats } from './settings/command.ts';
import { mergeSettings } from './settings/merge.ts';
import { askedSize, defaultTopology } from './settings/size.ts';
import { type RawOptions, sourceOfFlags } from './settings/source.ts';

/** `pod devices`: shows a slice of the pod and the figures of its hardware. */
export function addDevices(program: Command): void {
  const command = program
    .command('devices')
    .description('show a slice of the pod: its Cloud TPUs, its torus and its performance figures');
  addSettingFlags(command, 'devices')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  pod devices\n  pod devices --tpus 64\n')
    .action(({ json, ...flags }: RawOptions) => {
      const settings = mergeSettings('devices', [sourceOfFlags(flags)]);
      const grid = askedSize(settings)?.topology ?? defaultTopology;
      const text = json
        ? JSON.stringify(figures(grid), undefined, 2)
        : [...picture(grid), '', ...figuresTable(grid)].join('\n');
      process.stdout.write(`${text}\n`);
    });
  refuseRepeats(command);
}

interface Figures {
  readonly name: string;
  readonly tpus: number;
  readonly topology: string;
  readonly chips: number;
  readonly cores: number;
  readonly tflops: number;
  readonly hbmGB: number;
  readonly hbmUsableBytesPerCore: number;
  readonly hbmGBPerSecond: number;
  readonly linkGBPerSecond: number;
  readonly directedLinks: number;
  readonly watts: number;
}

function figures(grid: Grid): Figures {
  const it = sliceFigures(grid.columns * grid.rows);
  return {
    name: `v2-${it.cores}`,
    tpus: it.cloudTpus,
    topology: formatTopology(grid),
    chips: it.chips,
    cores: it.cores,
    tflops: (it.chips * tpuV2.nominalFlopsPerSecondPerChip) / 1e12,
    hbmGB: it.hbmBytes / 2 ** 30,
    hbmUsableBytesPerCore: it.hbmUsableBytes / it.cores,
    hbmGBPerSecond: it.hbmBytesPerSecond / 1e9,
    linkGBPerSecond: tpuV2.iciBitsPerSecondPerLink / 8e9,
    directedLinks: it.chips * tpuV2.iciLinksPerChip,
    watts: it.watts,
  };
}

function figuresTable(grid: Grid): string[] {
  const [one, all] = [figures({ columns: 1, rows: 1 }), figures(grid)];
  const row = (name: string, of: (it: Figures) => string): string[] => [name, of(one), of(all)];
  return table([
    ['', 'a Cloud TPU', `${all.name}, ${all.topology}`],
    row('Cloud TPUs', (it) => String(it.tpus)),
    row('chips', (it) => String(it.chips)),
    row('cores', (it) => String(it.cores)),
    row('bf16 multiply-adds', (it) => flops(it.tflops)),
    row('HBM', (it) => memory(it.hbmGB)),
    row(
      'HBM for programs, per core',
      (it) => `${(it.hbmUsableBytesPerCore / 2 ** 30).toFixed(2)} GB`,
    ),
    row('HBM bandwidth', (it) => `${it.hbmGBPerSecond} GB/s`),
    row('link bandwidth, each way', (it) => `${it.linkGBPerSecond} GB/s`),
    row('directed links', (it) => String(it.directedLinks)),
    row('thermal design power', (it) => `${(it.watts / 1000).toFixed(1)} kW`),
  ]);
}

function flops(tflops: number): string {
  return tflops >= 1000 ? `${(tflops / 1000).toFixed(1)} PFLOP/s` : `${tflops} TFLOP/s`;
}

function memory(gb: number): string {
  return gb >= 1024 ? `${gb / 1024} TB` : `${gb} GB`;
}

/**
 * Draws the grid of Cloud TPUs as text, with the number of each Cloud TPU. Every row and every
 * column is a ring. The dashes at the two ends of a drawn row stand for the link that closes the
 * ring of the row; links of columns are not drawn.
 */
function picture({ columns, rows }: Grid): string[] {
  const width = String(columns * rows - 1).length;
  return Array.from({ length: rows }, (_, y) => {
    const cells = Array.from(
      { length: columns },
      (_, x) => `[${String(y * columns + x).padStart(width)}]`,
    );
    return `─${cells.join('─')}─`;
  });
}
