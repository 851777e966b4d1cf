import type { Buffer, BufferId, Executable, Instruction } from '../isa/executable.ts';
import { at, unreachable } from '../numerics/assert.ts';
import { shapeText } from '../numerics/shape.ts';

/**
 * Returns a description of an executable as text. The text has five parts: HBM bytes for each kind
 * of buffer; instructions; buckets of all-reduces; exchanges; buffers with their offsets in bytes.
 */
export function describe(executable: Executable): string {
  const { name, cores, arenaBytes, hbm } = executable;
  const label = (id: BufferId): string => bufferLabel(id, at(executable.buffers, id));
  return [
    `executable ${name}: ${cores} cores, ${arenaBytes} bytes of arena, ` +
      `HBM ${hbm.peak} of ${hbm.limit} bytes a core`,
    ...Object.entries(hbm.byKind).map(([kind, bytes]) => `  ${kind}: ${bytes}`),
    `instructions (${executable.instructions.length})`,
    ...executable.instructions.map((it) => `  ${instructionText(it, label)}`),
    `buckets (${executable.buckets.length})`,
    ...executable.buckets.map(({ buffer, elements, members }) => {
      const parts = members.map((it) => `${it.name}@${it.offset}`);
      return `  ${label(buffer)}: ${elements} elements: ${parts.join(' ')}`;
    }),
    `exchanges (${executable.exchanges.length})`,
    ...executable.exchanges.map(({ pattern, source, target, rowBytes }) => {
      const what = `${pattern.kind} ${label(source)}, rows of ${rowBytes} bytes`;
      return `  ${label(target)} = ${what}`;
    }),
    `buffers (${executable.buffers.length})`,
    ...executable.buffers.map((it, id) => `  ${bufferText(id, it)}`),
    '',
  ].join('\n');
}

function instructionText(it: Instruction, label: (id: BufferId) => string): string {
  return `${it.phase} ${it.unit} ${it.name}: ${operandsText(it, label)}`;
}

function operandsText(it: Instruction, label: (id: BufferId) => string): string {
  switch (it.unit) {
    case 'infeed':
      return `${label(it.target)} = infeed ${it.element}`;
    case 'outfeed':
      return `outfeed ${it.element} = ${label(it.source)}`;
    case 'mxu': {
      const { batch, m, n, k, precision } = it.matmul;
      const size = `${batch === 1 ? '' : `${batch} of `}${m}x${n}x${k} ${precision}`;
      return `${label(it.target)} = ${label(it.lhs)} x ${label(it.rhs)} (${size})`;
    }
    case 'vpu': {
      const targets = it.targets.map(label).join(', ');
      return `${targets} = f${it.function}(${it.sources.map(label).join(', ')})`;
    }
    case 'copy':
      return `${label(it.target)}+${it.targetOffset} = ${label(it.source)}+${it.sourceOffset} (${it.bytes} bytes)`;
    case 'chip-sum':
      return `${label(it.target)} = ${label(it.source)} of both cores`;
    case 'rng':
      return `${label(it.newState)}, ${label(it.bits)} = philox ${label(it.state)}`;
    case 'plain': {
      const [targets, sources] = [it.targets, it.sources.map(({ buffer }) => buffer)];
      const code = `plain ${it.opcode}(${sources.map(label).join(', ')})`;
      return `${targets.map(label).join(', ')} = ${code}: ${it.reason}`;
    }
    case 'all-reduce-start':
    case 'all-reduce-done':
      return `bucket ${it.bucket}`;
    case 'exchange':
      return `exchange ${it.exchange}`;
    default:
      return unreachable(it);
  }
}

function bufferLabel(id: BufferId, it: Buffer): string {
  return `%${id}:${shapeText(it.shape)}${it.copies === 'shared' ? '' : `*${it.copies}`}`;
}

function bufferText(id: BufferId, it: Buffer): string {
  const arena = `arena ${it.offset}+${it.bytes}${it.stride === 0 ? '' : ` every ${it.stride}`}`;
  return `${bufferLabel(id, it)} ${it.kind} ${it.name}: ${arena}, HBM ${it.hbmOffset}+${it.hbmBytes}`;
}
