import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { podTorus } from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { checkFromWorker, type FromWorker, type ToWorker } from '../../src/pod/messages.ts';
import type { Refusal } from '../net/frame.ts';
import type { Hosting } from '../net/route.ts';
import type { TensorOffer } from '../net/tensor-socket.ts';
import type { Token } from '../net/token.ts';
import { controlWords } from '../threads/layout.ts';
import { type Life, startLife } from '../threads/life.ts';
import { Parameters, type Place } from '../threads/parameters.ts';
import type { WorkerTask } from '../threads/task.ts';
import { type Built, build, decodeAssignment, hashValues } from './assignment.ts';
import { Carrier } from './carrier.ts';
import { allocate, layOutProcess, type ProcessLayout } from './layout.ts';
import { type FromNode, pieceBytesMax, type Request, type ToNode } from './messages.ts';
import { NodeFeeds } from './node-feeds.ts';

export interface NodeOptions {
  readonly token: Token;
  /** Where tensors are sent from: what it binds to, and what others call it. */
  readonly bind: string;
  readonly host: string;
  readonly port: number;
  readonly send: (message: FromNode) => void;
  /** It has ended: because it was told to, or because of what went wrong. */
  readonly ended: (error: PodError | undefined) => void;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** How often the progress counter is sent, in ms. */
const pulseMs = 200;
/** The master sees for itself who has gone; only then a broken link is worth telling of, in ms. */
const troubleMs = 1500;
const waitMsLimits = { fast: 60_000, systolic: 1_800_000 } as const;

/** A worker's process: one Cloud TPU's thread, its loader, and its links to other processes. */
export class Node {
  readonly tpu: number;
  readonly #options: NodeOptions;
  readonly #built: Built;
  readonly #memory: WebAssembly.Memory;
  readonly #words: Int32Array;
  readonly #layout: ProcessLayout;
  readonly #carrier: Carrier;
  readonly #feeds: NodeFeeds;
  readonly #parameters: Parameters;
  readonly #port: MessagePort;
  readonly #life: Life;
  readonly #pulses: NodeJS.Timeout;
  readonly #unixPath: string;
  #epoch = 0;
  #waits = 0;
  /** One message after another: some take their time. */
  #work: Promise<void> = Promise.resolve();
  /** Written in pieces, by parameter. */
  #drafts: Uint8Array[] = [];
  /** Read in pieces, by parameter. */
  #copies: readonly Uint8Array[] = [];
  #isEnded = false;

  constructor({ tpu, assignment: text }: ToNode & { kind: 'welcome' }, options: NodeOptions) {
    this.tpu = tpu;
    this.#options = options;
    const assignment = decodeAssignment(text);
    const { topology, mxu } = assignment.config;
    const torus = podTorus(topology);
    assert(tpu < torus.workers, `Cloud TPU ${tpu} of ${torus.workers}`);
    this.#built = build(assignment);
    if (this.#built.hash !== assignment.hash) {
      const what = `${this.#built.hash.slice(0, 12)}, not ${assignment.hash.slice(0, 12)}`;
      throw new PodError('bad-program', `Cloud TPU ${tpu} compiled other programs: ${what}`);
    }
    const { programs } = this.#built;
    const processOf = Array.from({ length: torus.workers }, (_, worker) => worker);
    const hosting: Hosting = { torus, processOf, self: tpu };
    const executables = programs.map(({ executable }) => executable);
    this.#layout = layOutProcess(hosting, executables);
    this.#memory = allocate(this.#layout.bytes);
    this.#words = new Int32Array(this.#memory.buffer);
    const layout = this.#layout.threads;
    const memory = this.#memory;
    this.#unixPath = join(tmpdir(), `pod-${tpu}-${randomBytes(8).toString('hex')}.sock`);
    this.#carrier = new Carrier({
      ...{ memory, layout: this.#layout, hosting, unixPath: this.#unixPath },
      ...{ token: options.token, host: options.bind, port: options.port },
      stateOf: () => undefined,
      trouble: (peer, refusal) => this.#trouble(peer, refusal),
    });
    const failed = (error: unknown): void => this.#fail('the data loader', error);
    this.#feeds = new NodeFeeds({ tpu, programs, memory, layout, failed });
    this.#parameters = new Parameters(memory, layout, programs);
    const { port1, port2: port } = new MessageChannel();
    this.#port = port1;
    const waitMsLimit = waitMsLimits[mxu];
    const { relaxed } = assignment;
    const task: WorkerTask = {
      ...{ tpu, topology, programs, mxu, relaxed, memory, layout, port, waitMsLimit, faults: [] },
      engine: this.#layout.engine,
    };
    port1.on('message', (value: unknown) => this.#say(checkFromWorker(value)));
    this.#life = startLife('worker', task, [port], {
      done: (lastWords) => this.#done(lastWords),
      failed: (error) => this.#fail('its thread', error),
    });
    this.#pulses = setInterval(() => this.#pulse(), pulseMs);
  }

  /** Listens for its neighbours, and says so to the master. Throws `io` when it cannot. */
  async start(): Promise<void> {
    const { host, send } = this.#options;
    const port = await this.#carrier.listen();
    const offer: TensorOffer = { host, port, unixPath: this.#unixPath };
    send({ kind: 'offer', pid: process.pid, offer, hash: this.#built.hash });
  }

  receive(message: ToNode): void {
    this.#work = this.#work
      .then(() => this.#take(message))
      .catch((error: unknown) => this.#fail('its process', error));
  }

  /** Ends its threads and sockets. */
  async end(error?: PodError): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearInterval(this.#pulses);
    this.#carrier.abort();
    await Promise.all([this.#feeds.end(), this.#life.end(), this.#carrier.close()]);
    this.#port.close();
    this.#options.ended(error);
  }

  async #take(message: ToNode): Promise<void> {
    if (this.#isEnded) return;
    switch (message.kind) {
      case 'welcome':
        return assert(false, 'a second welcome');
      case 'membership':
        this.#epoch = message.epoch;
        this.#carrier.begin(message.epoch, message.offers);
        return;
      case 'pod':
        return this.#takePod(message.message);
      case 'set':
        return this.#answer(message.id, this.#set(message));
      case 'write':
        return this.#answer(message.id, this.#write(message));
      case 'read':
        return this.#answer(message.id, true, this.#read(message));
      default:
        return unreachable(message);
    }
  }

  async #takePod(message: ToWorker): Promise<void> {
    switch (message.kind) {
      case 'abort':
        this.#carrier.abort();
        break;
      case 'load':
        await this.#feeds.begin(message.steps);
        break;
      case 'start-step':
        this.#feeds.release(message.program, message.step);
        break;
      case 'stop':
        void this.end();
        return;
      default:
        unreachable(message);
    }
    this.#port.postMessage(message);
  }

  // ------------------------------------------------------------------------------------ parameters

  #place({ program, steps }: Request): Place {
    return { tpu: this.tpu, program, steps };
  }

  /** Whether the values were at hand. */
  #set(request: ToNode & { kind: 'set' }): boolean {
    const place = this.#place(request);
    const isInitial = request.from === 'initial';
    if (isInitial && request.program !== 0) return false;
    const values = isInitial ? this.#built.initialValues : this.#drafts;
    if (hashValues(values) !== request.hash) return false;
    this.#parameters.clear(place);
    this.#parameters.write(place, values);
    this.#drafts = [];
    return true;
  }

  /** Puts a piece aside. */
  #write({ program, index, offset, bytes }: ToNode & { kind: 'write' }): boolean {
    const { executable } = at(this.#built.programs, program);
    const buffer = executable.buffers[executable.parameters[index] ?? -1];
    if (buffer === undefined || offset + bytes.length > buffer.bytes) return false;
    this.#drafts[index] ??= new Uint8Array(buffer.bytes);
    this.#drafts[index].set(bytes, offset);
    return true;
  }

  /** A piece of a parameter; a copy of all is made with the first. */
  #read(request: ToNode & { kind: 'read' }): Uint8Array {
    const { index, offset, length } = request;
    if (index === 0 && offset === 0) this.#copies = this.#parameters.read(this.#place(request));
    return at(this.#copies, index).subarray(offset, offset + Math.min(length, pieceBytesMax));
  }

  #answer(id: number, done: boolean, bytes: Uint8Array = new Uint8Array(0)): void {
    this.#options.send({ kind: 'answer', id, done, bytes });
  }

  // ----------------------------------------------------------------------------------------- voice

  /** What the worker says; its last words come when its thread has ended. */
  #say(message: FromWorker): void {
    if (this.#isEnded || message.kind === 'failed') return;
    if (message.kind === 'ready') this.#options.log('ready', { epoch: message.epoch });
    this.#tell(message);
  }

  #tell(message: FromWorker): void {
    const sent = message.kind === 'step-done' ? this.#carrier.sentPairs() : [];
    this.#options.send({ kind: 'pod', message, sent });
  }

  /** Its thread has ended: after a failure, with its last words. */
  #done(lastWords: unknown): void {
    if (this.#isEnded) return;
    if (lastWords === null) {
      this.#fail('its thread', new Error('it ended by itself'));
      return;
    }
    const message = checkFromWorker(lastWords);
    assert(message.kind === 'failed', `last words: ${message.kind}`);
    this.#tell(message);
    void this.end(new PodError('worker-threw', message.message));
  }

  #fail(who: string, error: unknown): void {
    if (this.#isEnded) return;
    const code = error instanceof PodError ? error.code : 'worker-exited';
    const message = `${who} failed: ${error instanceof Error ? error.message : String(error)}`;
    this.#tell({ kind: 'failed', tpu: this.tpu, epoch: this.#epoch, code, message });
    void this.end(new PodError(code, message));
  }

  #pulse(): void {
    const line = at(this.#layout.threads.tpus, this.tpu).control / 4;
    this.#waits += Atomics.load(this.#words, line + controlWords.awaitsInfeed);
    const beats = Atomics.load(this.#words, line + controlWords.beats) >>> 0;
    this.#options.send({ kind: 'pulse', beats: beats + this.#waits });
  }

  /** A connection that carries a link has ended, and no new membership has begun. */
  #trouble(peer: number, refusal: Refusal): void {
    const isCorrupt = refusal.code === 'payload-crc' || refusal.code === 'header-crc';
    this.#options.log('link-trouble', { peer, cause: refusal.text });
    const epoch = this.#epoch;
    const accuse = (): void => {
      if (this.#isEnded || epoch !== this.#epoch) return;
      const code = isCorrupt ? 'bad-frame' : 'link-timeout';
      this.#tell({
        ...{ kind: 'accused', tpu: this.tpu, epoch, suspect: peer, code },
        message: `the connection from Cloud TPU ${peer} ended: ${refusal.text}`,
      });
    };
    if (isCorrupt) accuse();
    else setTimeout(accuse, troubleMs).unref();
  }
}
