import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Break, Rig } from './rig.ts';
import type { Line } from './story.ts';

export interface DockerRigOptions {
  readonly tpus: number;
  readonly args: string;
  readonly graceMs: number;
}

/** The fields of a Docker event (`docker events`) that this file reads. */
interface EngineEvent {
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: number;
}

const project = 'pod-faults';
const network = `${project}_ici`;
const master = `${project}-master-1`;
const eventMsLimit = 10_000;

/**
 * Shell script that kills every process `node dist/…` of a container with SIGKILL, and prints the
 * time of the kill in ms since 1970. The script runs in the container, as the container's user.
 */
const killProgram = `for it in /proc/[0-9]*/cmdline; do
  case "$(tr '\\0' ' ' <"$it" 2>/dev/null)" in "node dist/"*)
    it=\${it#/proc/}; found="$found \${it%/cmdline}" ;;
  esac
done
date +%s%3N; kill -9 $found`;

/** A pod of containers, run by Docker Compose. */
export class DockerRig implements Rig {
  /**
   * Shortest time, in ms, that a master runs before a fault kills it. The entry script of the
   * container restarts a crashed master after a delay. The delay grows each time a master crashes
   * within 10 s of its start. A master that has run longer than 10 s is restarted after the
   * shortest delay. So all injections meet the same delay.
   */
  readonly masterLifeMsMin = 11_000;
  readonly startsOthers = false;
  readonly #env: NodeJS.ProcessEnv;
  readonly #tpus: number;
  readonly #addresses: Map<string, string> = new Map();
  #events: EngineEvent[] = [];
  #listener: { kill(): void } | undefined;

  constructor({ tpus, args, graceMs }: DockerRigOptions) {
    this.#tpus = tpus;
    this.#env = {
      ...process.env,
      ...{ TPUS: String(tpus), POD_ARGS: args, POD_GRACE_MS: String(graceMs) },
      ...{ POD_RESTARTS: '200', POD_MASTER_RESTARTS: '200' },
    };
  }

  async up(): Promise<void> {
    await this.down();
    this.#events = [];
    this.#listen();
    await this.#compose('up', '--detach');
  }

  async down(): Promise<void> {
    this.#listener?.kill();
    await this.#compose('down', '--volumes', '--timeout', '1');
  }

  async follow(hear: (line: string) => void): Promise<number> {
    for (let heard = 0; ; ) {
      heard += await this.#followOnce(heard, hear);
      const format = '{{.State.Status}} {{.State.ExitCode}}';
      const state = await this.#docker('inspect', '--format', format, master);
      const [status, code] = state.trim().split(' ');
      if (status === 'exited') return Number(code);
      await sleep(20);
    }
  }

  async victims(): Promise<readonly string[]> {
    await this.#findAddresses();
    return Array.from({ length: this.#tpus }, (_, i) => `${project}-tpu-${i + 1}`);
  }

  joiner({ host }: Line): string | undefined {
    return this.#addresses.get(host ?? '');
  }

  readonly breaks: Rig['breaks'] = {
    kill: (victim) => this.#timed('kill', victim, () => this.#docker('kill', victim)),
    crash: (victim) => this.#killProgram(victim),
    pause: (victim) => this.#timed('pause', victim, () => this.#docker('pause', victim)),
    stop: (victim) => this.#timed('kill', victim, () => this.#docker('stop', victim)),
    disconnect: (victim) => {
      const cut = () => this.#docker('network', 'disconnect', network, victim);
      return this.#timed('disconnect', victim, cut);
    },
  };

  killMaster(): Promise<number> {
    return this.#killProgram(master);
  }

  async mend(victim: string, how: Break): Promise<void> {
    if (how === 'kill' || how === 'stop') await this.#docker('start', victim);
    if (how === 'pause') await this.#docker('unpause', victim);
    if (how === 'disconnect') await this.#docker('network', 'connect', network, victim);
    await this.#findAddresses();
  }

  async logs(): Promise<string> {
    const all = ['master-1', ...Array.from({ length: this.#tpus }, (_, i) => `tpu-${i + 1}`)];
    const texts = all.map(async (name) => {
      const text = await this.#docker('logs', `${project}-${name}`);
      return text.trimEnd().replace(/^/gm, `${name} `);
    });
    return (await Promise.all(texts)).join('\n');
  }

  /**
   * Kills the program in a container and returns the time of the kill, in ms since 1970. The
   * container goes on running, and its entry script starts the program again.
   */
  async #killProgram(victim: string): Promise<number> {
    const time = Number(await this.#docker('exec', victim, 'sh', '-c', killProgram));
    if (time > 0) return time;
    throw new Error(`${victim} was not killed`);
  }

  /**
   * Runs `work` and waits until Docker reports the event `action` of the container `victim`.
   * Returns the time of the event, in ms since 1970. Throws if Docker reports no such event within
   * `eventMsLimit`.
   */
  async #timed(action: string, victim: string, work: () => Promise<unknown>): Promise<number> {
    const mark = this.#events.length;
    let failure: unknown;
    const done = work().catch((error: unknown) => {
      failure = error;
    });
    const isIt = ({ Action, Actor: { ID, Attributes } }: EngineEvent): boolean =>
      Action === action &&
      (Attributes['name'] === victim || ID === victim || this.#is(victim, Attributes));
    const deadlineMs = performance.now() + eventMsLimit;
    for (; performance.now() < deadlineMs; await sleep(10)) {
      if (failure !== undefined) throw failure;
      const event = this.#events.slice(mark).find(isIt);
      if (event === undefined) continue;
      await done;
      if (failure !== undefined) throw failure;
      return event.timeNano / 1e6;
    }
    throw new Error(`the Docker engine reported no ${action} of ${victim}`);
  }

  /**
   * True if a network event of Docker is about the container named `victim`. The event has the
   * Docker ID of the container (in the attribute `container`), but not its name.
   */
  #is(victim: string, { container }: Readonly<Record<string, string>>): boolean {
    return container !== undefined && this.#numbers.get(container) === victim;
  }

  readonly #numbers: Map<string, string> = new Map();

  async #findAddresses(): Promise<void> {
    const text = await this.#docker(
      'network',
      'inspect',
      '--format',
      '{{json .Containers}}',
      network,
    );
    const containers = JSON.parse(text) as Readonly<
      Record<string, { readonly Name: string; readonly IPv4Address: string }>
    >;
    for (const [number, { Name, IPv4Address }] of Object.entries(containers)) {
      this.#numbers.set(number, Name);
      this.#addresses.set(IPv4Address.split('/')[0] ?? '', Name);
    }
  }

  #listen(): void {
    const child = spawn('docker', ['events', '--format', '{{json .}}'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#events.push(JSON.parse(line) as EngineEvent);
    });
    this.#listener = child;
  }

  /**
   * Follows the log of the master's container until the container ends. `heard` is the number of
   * lines that earlier calls have passed to `hear`. Skips these lines and passes all later lines to
   * `hear`. Returns the number of lines passed by this call.
   */
  #followOnce(heard: number, hear: (line: string) => void): Promise<number> {
    const child = spawn('docker', ['logs', '--follow', master], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let count = 0;
    createInterface({ input: child.stdout }).on('line', (line) => {
      count++;
      if (count > heard) hear(line);
    });
    return new Promise((resolve) => child.once('close', () => resolve(Math.max(0, count - heard))));
  }

  #compose(...args: string[]): Promise<string> {
    return this.#docker('compose', '--project-name', project, ...args);
  }

  async #docker(...args: string[]): Promise<string> {
    const running = promisify(execFile)('docker', args, { env: this.#env, maxBuffer: 1 << 28 });
    const { stdout } = await running.catch(({ stderr, message }: { stderr?: string } & Error) => {
      throw new Error(
        `docker ${args.join(' ')}: ${(stderr || message).trim().replace(/\s+/g, ' ')}`,
      );
    });
    return stdout;
  }
}
