import { readFileSync } from 'node:fs';
import type { Docker } from '../../../cluster/containers/docker.ts';

/** A container of the fake engine. */
export interface FakeContainer {
  readonly id: string;
  readonly service: string;
  runs: boolean;
  isPaused: boolean;
  hasNetwork: boolean;
  exitCode: number;
}

/** Faults that a test gives to the fake Docker engine. */
export interface FakeOptions {
  /** Called when the containers have been started. `shared` is the folder that they share. */
  readonly started?: (docker: FakeDocker, shared: string) => void;
  /** Returns an error for commands that must fail. */
  readonly refuses?: (command: string) => Error | undefined;
  /** Returns the answer to a command, if the engine in memory is not to answer it. */
  readonly answers?: (command: string) => string;
  /** True if `compose up` never ends by itself. */
  readonly hangs?: boolean;
}

/**
 * An engine in memory that knows the commands that the ground `containers` uses, and nothing else.
 * It keeps the commands in `commands`, with the name of the service in place of the id.
 */
export class FakeDocker implements Docker {
  readonly commands: string[] = [];
  containers: FakeContainer[] = [];
  networks: string[] = [];
  volumes: string[] = [];
  /** Name of the project and the value of its label; undefined before `compose up`. */
  project: { readonly name: string; readonly label: string } | undefined;
  readonly #options: FakeOptions;
  readonly #waiting: Set<{ look(): void; fail(error: Error): void }> = new Set();

  constructor(options: FakeOptions = {}) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.containers.length + this.networks.length + this.volumes.length === 0;
  }

  of(service: string): FakeContainer {
    const found = this.containers.find((it) => it.service === service);
    if (found === undefined) throw new Error(`no container of ${service}`);
    return found;
  }

  /** Ends a container by itself, with an exit code, if it was not removed yet. */
  exit(service: string, code: number): void {
    const found = this.containers.find((it) => it.service === service);
    if (found !== undefined) Object.assign(found, { runs: false, isPaused: false, exitCode: code });
    this.#look();
  }

  async run(words: readonly string[]): Promise<string> {
    const named = words.map(
      (word) => this.containers.find(({ id }) => id === word)?.service ?? word,
    );
    const isQuestion =
      ['ps', 'inspect', 'wait', 'logs'].includes(words[0] ?? '') || words[1] === 'ls';
    if (!isQuestion) this.commands.push(named.filter((it) => !it.startsWith('-')).join(' '));
    const error = this.#options.refuses?.(named.join(' '));
    if (error !== undefined) throw error;
    return this.#options.answers?.(named.join(' ')) ?? this.#answer(words);
  }

  abandon(): void {
    for (const it of [...this.#waiting]) it.fail(new Error('docker: ended'));
  }

  #answer(words: readonly string[]): string | Promise<string> {
    const [first = '', second = ''] = words;
    const found = this.containers.find(({ id }) => id === words.at(-1));
    if (first === 'compose') return this.#up(words);
    if (first === 'ps')
      return this.#list(
        words,
        this.containers.filter((it) => isAsked(words, it)),
      );
    if (first === 'inspect') return this.containers.map(inspected).join('\n');
    if (first === 'wait') return this.#wait(found);
    if (first === 'logs') return '{"level":50,"msg":"the run failed","code":"diverged"}\n';
    if (first === 'rm') return this.#remove('containers');
    if (first === 'network' && second === 'ls') return this.#list(words, this.networks);
    if (first === 'volume' && second === 'ls') return this.#list(words, this.volumes);
    if (second === 'rm') return this.#remove(first === 'network' ? 'networks' : 'volumes');
    if (found === undefined) throw new Error(`docker ${words.join(' ')}: no such container`);
    this.#change(found, first === 'network' ? second : first);
    return '';
  }

  async #up(words: readonly string[]): Promise<string> {
    const override = words[words.lastIndexOf('--file') + 1] ?? '';
    const text = JSON.parse(readFileSync(override, 'utf8'));
    const { labels, volumes } = text.services.master;
    const [label = ''] = Object.values<string>(labels);
    this.project = { name: words[words.indexOf('--project-name') + 1] ?? '', label };
    this.networks = ['ici'];
    this.volumes = ['token', 'checkpoints'];
    this.containers = ['tpu', 'tpu', 'master'].map((service, i) => ({
      ...{ id: `${i}`.repeat(64), service, exitCode: 0 },
      ...{ runs: true, isPaused: false, hasNetwork: true },
    }));
    if (this.#options.hangs) await this.#until(() => false);
    this.#options.started?.(this, volumes[0].source);
    return '';
  }

  #list(words: readonly string[], found: readonly (string | FakeContainer)[]): string {
    const isFormatted = words.includes('--format');
    const { name = '', label = '' } = this.project ?? {};
    return found
      .map((it) => (isFormatted ? `${name} ${label}` : typeof it === 'string' ? it : it.id))
      .join('\n');
  }

  async #wait(container: FakeContainer | undefined): Promise<string> {
    await this.#until(() => container?.runs === false);
    return `${container?.exitCode}\n`;
  }

  #remove(what: 'containers' | 'networks' | 'volumes'): string {
    this[what] = [];
    return '';
  }

  #change(it: FakeContainer, action: string): void {
    const state = `${action} ${it.runs ? 'running' : 'ended'} ${it.isPaused ? 'paused' : ''}`;
    if (action === 'kill') Object.assign(it, { runs: false, isPaused: false, exitCode: 137 });
    else if (action === 'start') it.runs = true;
    else if (action === 'pause') it.isPaused = true;
    else if (action === 'unpause') it.isPaused = false;
    else if (action === 'connect') it.hasNetwork = true;
    else if (action === 'disconnect') it.hasNetwork = false;
    else throw new Error(`docker: no such command: ${state}`);
    this.#look();
  }

  #until(isSo: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = {
        look: () => {
          if (!isSo()) return;
          this.#waiting.delete(waiting);
          resolve();
        },
        fail: (error: Error) => {
          this.#waiting.delete(waiting);
          reject(error);
        },
      };
      this.#waiting.add(waiting);
      waiting.look();
    });
  }

  #look(): void {
    for (const it of [...this.#waiting]) it.look();
  }
}

function isAsked(words: readonly string[], it: FakeContainer): boolean {
  return !words.includes('status=paused') || it.isPaused;
}

function inspected({ id, service }: FakeContainer): string {
  return `${id} ${service} ${JSON.stringify({ ici: { Aliases: [service, id.slice(0, 12)] } })}`;
}
