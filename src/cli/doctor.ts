import { existsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import type { Command } from 'commander';
import { enableRelaxedSimd } from '../chip/engine.ts';
import { bytes, columns } from '../observe/format.ts';

interface Finding {
  readonly name: string;
  readonly found: string;
  readonly ok: boolean;
  /** What it means for a run, or what to do. */
  readonly advice: string;
}

/** `pod doctor`: what this machine offers, and what that means. */
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('say what this machine offers for a pod')
    .option('--json', 'print JSON')
    .action((flags: { readonly json?: boolean }) => {
      const findings = examine();
      const text = flags.json ? JSON.stringify(findings, undefined, 2) : listing(findings);
      process.stdout.write(`${text}\n`);
      if (findings.some((it) => !it.ok)) process.exitCode = 1;
    });
}

function listing(findings: readonly Finding[]): string {
  const rows = findings.map((it) => [it.ok ? 'ok' : 'no', it.name, it.found, it.advice]);
  return columns(rows).join('\n');
}

function examine(): Finding[] {
  return [node(), cores(), memory(), sharedMemory(), simd(), relaxedSimd(), containers()];
}

function node(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  return {
    name: 'Node',
    found: process.versions.node,
    ok,
    advice: ok ? 'new enough' : 'install 20.19 or newer',
  };
}

function cores(): Finding {
  const found = availableParallelism();
  const advice = found >= 2 ? 'workers share them' : 'works, slowly: two or more are better';
  return {
    name: 'processors',
    found: `${found} × ${cpus()[0]?.model ?? 'unknown'}`,
    ok: true,
    advice,
  };
}

function memory(): Finding {
  const ok = totalmem() >= 2 * 2 ** 30;
  return {
    name: 'memory',
    found: `${bytes(freemem())} free of ${bytes(totalmem())}`,
    ok,
    advice: ok ? 'the default run takes about 1 GiB' : 'a run needs about 1 GiB',
  };
}

function sharedMemory(): Finding {
  const maximum = 65536;
  const advice = 'all Cloud TPUs of a process share it';
  try {
    const memory = new WebAssembly.Memory({ initial: 1, maximum, shared: true });
    return {
      name: 'shared memory',
      found: `up to ${bytes(maximum * 65536)}`,
      ok: memory.buffer.byteLength > 0,
      advice,
    };
  } catch (error) {
    return {
      name: 'shared memory',
      found: String(error),
      ok: false,
      advice: 'raise the limit of virtual memory (ulimit -v)',
    };
  }
}

/** A module with one function that adds two vectors. */
const simdModule: Uint8Array<ArrayBuffer> = Uint8Array.from([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 123, 123, 1, 123, 3, 2, 1, 0, 10, 11, 1, 9, 0, 32, 0,
  32, 1, 253, 228, 1, 11,
]);

function simd(): Finding {
  const ok = WebAssembly.validate(simdModule);
  return {
    name: 'SIMD',
    found: ok ? '128 bits' : 'none',
    ok,
    advice: ok ? 'needed' : 'this processor cannot run the kernels',
  };
}

function relaxedSimd(): Finding {
  const found = enableRelaxedSimd();
  return {
    name: 'fused multiply-add',
    found: found ? 'yes' : 'no',
    ok: true,
    advice: found ? 'used' : 'works without, about a third slower, with the same bits',
  };
}

function containers(): Finding {
  const found = existsSync('/var/run/docker.sock');
  return {
    name: 'Docker engine',
    found: found ? 'yes' : 'no',
    ok: true,
    advice: 'not needed in threads',
  };
}
