import { writeFileSync } from 'node:fs';
import { digits } from '../src/data/digits.ts';
import { script, whole } from './command.ts';

/**
 * Writes synthetic digits as a PGM picture for people to look at. Each class has one column of the
 * picture: `node scripts/show-digits.ts FILE.pgm [SEED] [ROWS]`. A Node that cannot strip types
 * needs the compiled script, `dist/scripts/show-digits.js`.
 */
function main(): void {
  const command = script('show-digits', 'write a sheet of digits as a PGM picture', 'digits.pgm 3')
    .argument('<file>', 'the file to write')
    .addArgument(whole('seed', 'seed of the digits', 0))
    .addArgument(whole('rows', 'number of digits of each class', 12));
  const [file, seed, rows] = command.parse().processedArgs as [string, number, number];
  const sheet = drawSheet(seed, rows * 10);
  const header = `P5\n${sheet.width} ${sheet.height}\n255\n`;
  writeFileSync(file, Buffer.concat([Buffer.from(header), sheet.pixels]));
}

interface Sheet {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

function drawSheet(seed: number, count: number): Sheet {
  const set = digits(seed, { split: 'train' });
  const width = set.columns * set.classes;
  const height = (set.rows * count) / set.classes;
  const pixels = new Uint8Array(width * height);
  const image = new Uint8Array(set.rows * set.columns);
  for (let i = 0; i < count; i++) {
    const column = set.sample(i, image, 0) * set.columns;
    const row = Math.floor(i / set.classes) * set.rows;
    for (let y = 0; y < set.rows; y++) {
      const line = image.subarray(y * set.columns, (y + 1) * set.columns);
      pixels.set(line, (row + y) * width + column);
    }
  }
  return { width, height, pixels };
}

main();
