import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isAlive, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { readProcesses } from '../../cluster/process/spawn.ts';
import { assert } from '../../src/numerics/assert.ts';
import type { Rig } from './rig.ts';
import type { Line } from './story.ts';

const program = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface ProcessRigOptions {
  readonly args: string;
  readonly graceMs: number;
}

/**
 * A pod of processes on this machine, started by `pod up`. The supervisor restarts a dead master,
 * and the master replaces dead workers.
 */
export class ProcessRig implements Rig {
  /**
   * Shortest time, in ms, that a master runs before a fault kills it. The supervisor restarts a
   * crashed master after a delay. The delay doubles each time a master crashes within 10 s of its
   * start. A master that has run longer than 10 s is restarted after the shortest delay. So all
   * injections meet the same delay.
   */
  readonly masterLifeMsMin = 11_000;
  /** True, because the master itself starts a new process for a lost worker. */
  readonly startsOthers = true;
  readonly #options: ProcessRigOptions;
  #folder = '';
  #isDown = true;

  constructor(options: ProcessRigOptions) {
    this.#options = options;
  }

  async up(): Promise<void> {
    await this.down();
    this.#folder = mkdtempSync(join(tmpdir(), 'pod-faults-'));
    this.#isDown = false;
    await this.#pod('up', ...this.#words);
  }

  async down(): Promise<void> {
    if (this.#isDown) return;
    this.#isDown = true;
    await this.#pod('down');
    rmSync(this.#folder, { recursive: true });
  }

  /**
   * Passes the lines of the masters' log to `hear`. Returns 0 when the last master has logged its
   * summary and ended. Returns 1 if `down` ends the pod before that. The exit code of the master is
   * not known here, because the master is a child of the supervisor, not of this process.
   */
  async follow(hear: (line: string) => void): Promise<number> {
    for (let heard = 0; ; await sleep(20)) {
      const isThere = isAlive(this.#master);
      const lines = readFileSync(join(this.#folder, 'master.log'), 'utf8').split('\n').slice(0, -1);
      for (const line of lines.slice(heard)) hear(line);
      heard = lines.length;
      if (!isThere && lines.at(-1)?.includes('"msg":"summary"')) return 0;
      if (this.#isDown) return 1;
    }
  }

  async victims(): Promise<readonly string[]> {
    const { pid: master } = this.#master;
    const all = readProcesses(this.#folder)?.all ?? [];
    return all.filter((it) => it.pid !== master && isAlive(it)).map(({ pid }) => String(pid));
  }

  joiner({ pid }: Line): string | undefined {
    return pid === undefined ? undefined : String(pid);
  }

  readonly breaks: Rig['breaks'] = {
    kill: async (victim) => signal(victim, 'SIGKILL'),
    crash: async (victim) => signal(victim, 'SIGKILL'),
    pause: async (victim) => signal(victim, 'SIGSTOP'),
    stop: async (victim) => signal(victim, 'SIGTERM'),
    disconnect: () =>
      Promise.reject(new Error('processes on one machine cannot be disconnected from a network')),
  };

  async killMaster(): Promise<number> {
    // The supervisor starts the next master.
    return signal(String(this.#master.pid), 'SIGKILL');
  }

  async mend(victim: string, how: keyof Rig['breaks']): Promise<void> {
    const isThere = (await this.victims()).includes(victim);
    if (how === 'pause' && isThere) signal(victim, 'SIGCONT');
  }

  async logs(): Promise<string> {
    if (!existsSync(this.#folder)) return '';
    const names = readdirSync(this.#folder).filter((it) => it.endsWith('.log'));
    const text = (name: string): string => readFileSync(join(this.#folder, name), 'utf8').trimEnd();
    return names.map((name) => text(name).replace(/^/gm, `${name} `)).join('\n');
  }

  get #words(): readonly string[] {
    return this.#options.args.split(/\s+/);
  }

  get #master(): ProcessIdentity {
    const master = readProcesses(this.#folder)?.master;
    assert(master !== undefined, `no pod in ${this.#folder}`);
    return master;
  }

  async #pod(command: string, ...args: readonly string[]): Promise<void> {
    const env = {
      ...process.env,
      ...{ POD_GRACE_MS: String(this.#options.graceMs), POD_MASTER_RESTARTS: '200' },
    };
    const words = [program, command, '--dir', this.#folder, ...args];
    await promisify(execFile)(process.execPath, words, { env });
  }
}

function signal(pid: string, name: NodeJS.Signals): number {
  process.kill(Number(pid), name);
  return Date.now();
}
