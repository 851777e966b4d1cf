import { existsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import type { Command } from 'commander';
import { engine } from '../../cluster/host/engine.ts';
import { findInLibc } from '../../cluster/host/libc.ts';
import { lackForThreads } from '../../cluster/host/room.ts';
import { socketFile } from '../../cluster/process/socket-file.ts';
import { enableRelaxedSimd } from '../chip/engine.ts';
import { bytes, columns } from '../observe/format.ts';

interface Finding {
  readonly name: string;
  readonly found: string;
  readonly ok: boolean;
  /** What the finding means for a run, or what the user should do about the finding. */
  readonly advice: string;
}

/**
 * `pod doctor`: checks whether this machine can run a pod, and prints one finding for each check.
 */
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('check whether this machine can run a pod')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExit codes:\n  0  this machine can run 8 Cloud TPUs\n  2  something is missing: see the lines that begin with "no"\n',
    )
    .action((flags: { readonly json?: boolean }) => {
      const findings = examine();
      const text = flags.json ? JSON.stringify(findings, undefined, 2) : listing(findings);
      process.stdout.write(`${text}\n`);
      if (findings.some((it) => !it.ok)) process.exitCode = 2;
    });
}

function listing(findings: readonly Finding[]): string {
  const rows = findings.map((it) => [it.ok ? 'ok' : 'no', it.name, it.found, it.advice]);
  return columns(rows).join('\n');
}

function examine(): Finding[] {
  return [
    ...ofEngine(),
    room(),
    processors(),
    memory(),
    relaxedSimd(),
    sockets(),
    systemCalls(),
    containers(),
  ];
}

/**
 * Returns one finding for each requirement that every command has, such as the version of Node. The
 * requirements are in cluster/host/engine.cts.
 */
function ofEngine(): Finding[] {
  return engine.inspect().map(({ name, ok, expected, found, advice }) => ({
    ...{ name, ok, found },
    advice: ok ? 'needed' : `expected ${expected}; ${advice}`,
  }));
}

/**
 * Number of threads of the default run: one thread for each of eight Cloud TPUs, one loader for
 * training and one loader for evaluation.
 */
const defaultThreads = 8 + 2;

function room(): Finding {
  const name = 'room for a run';
  const lack = lackForThreads(defaultThreads, '8 Cloud TPUs in one process');
  if (lack === undefined)
    return {
      name,
      found: 'yes',
      ok: true,
      advice: 'enough threads, addresses and data for 8 Cloud TPUs',
    };
  return { name, found: 'none', ok: false, advice: lack.message };
}

function processors(): Finding {
  const found = availableParallelism();
  return {
    name: 'processors',
    found: `${found} × ${cpus()[0]?.model ?? 'unknown'}`,
    ok: true,
    advice:
      found >= 2
        ? 'the Cloud TPUs share them'
        : 'one processor is enough, but slow; use two or more',
  };
}

/**
 * Returns the finding about the memory of the machine, or of the container if the container has
 * less.
 */
function memory(): Finding {
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  const total = Math.min(totalmem(), limit);
  const ok = total >= 2 ** 30;
  return {
    name: 'memory',
    found: `${bytes(Math.min(freemem(), total))} free of ${bytes(total)}`,
    ok,
    advice: ok ? 'the default run takes about 1 GiB' : 'a run needs about 1 GiB',
  };
}

function relaxedSimd(): Finding {
  const found = enableRelaxedSimd();
  return {
    name: 'fused multiply-add',
    found: found ? 'yes' : 'no',
    ok: true,
    advice: found
      ? 'used'
      : 'optional: without it, runs are about a third slower, with the same bits',
  };
}

function sockets(): Finding {
  const found = socketFile() !== undefined;
  return {
    name: 'folder for sockets',
    found: found ? 'yes' : 'none',
    ok: true,
    advice: found
      ? 'used by pod up'
      : 'optional: without it, pod up is slower; set TMPDIR to a writable folder with a short path',
  };
}

function systemCalls(): Finding {
  const flock = findInLibc('int flock(int fd, int operation)');
  const found = typeof flock !== 'string';
  return {
    name: 'locks of files',
    found: found ? 'yes' : flock,
    ok: true,
    advice: found
      ? 'used'
      : 'optional: without it, pod compares process numbers to see whether a folder is in use',
  };
}

function containers(): Finding {
  const found = existsSync('/var/run/docker.sock');
  return {
    name: 'Docker engine',
    found: found ? 'yes' : 'no',
    ok: true,
    advice: 'only needed for pods of containers',
  };
}
