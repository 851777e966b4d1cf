import { hostname } from 'node:os';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { podTorus, type Topology, type Torus } from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { messageOf, PodError } from '../../src/numerics/error.ts';
import { mulberry32 } from '../../src/numerics/generator.ts';
import { checkFromWorker, type FromWorker, type ToWorker } from '../../src/pod/messages.ts';
import type { Program } from '../../src/pod/pod.ts';
import { waitMsLimits } from '../limits.ts';
import type { Refusal } from '../net/frame.ts';
import { LinkFaults } from '../net/link-faults.ts';
import type { Hosting } from '../net/route.ts';
import type { TensorOffer } from '../net/tensor-socket.ts';
import type { Token } from '../net/token.ts';
import { accusation, isSpoiled, troubleMs } from '../net/trouble.ts';
import { breaksLinks, faultsFor, readFaults } from '../runtime/fault-file.ts';
import { allocate, controlWords } from '../runtime/layout.ts';
import { startTaskThread, type TaskThread } from '../runtime/life.ts';
import { Parameters, type Place } from '../runtime/parameters.ts';
import type { WorkerTask } from '../runtime/task.ts';
import { type Assignment, hashValues, programsOf } from './assignment.ts';
import { Carrier } from './carrier.ts';
import { EngineProbe } from './engine-probe.ts';
import { layOutProcess, type ProcessLayout } from './layout.ts';
import { type FromNode, pieceBytesMax, type Request, type ToNode } from './messages.ts';
import { NodeFeeds } from './node-feeds.ts';
import { socketFile } from './socket-file.ts';

/** Constructor arguments of a {@link Node}. */
export interface NodeOptions {
  readonly tpu: number;
  readonly assignment: Assignment;
  /** The executables of the assignment, as `packAssignment` packed them. */
  readonly code: Uint8Array;
  readonly token: Token;
  /** Address on which the node listens for its neighbours. */
  readonly bind: string;
  readonly host: string;
  readonly port: number;
  readonly send: (message: FromNode) => void;
  /**
   * Called once when the node has ended. `error` is the error that ended the node, or undefined if
   * the node was told to end, for example by `stop`.
   */
  readonly ended: (error: PodError | undefined) => void;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
  /**
   * Environment variables of the process. While a fault plan runs, one of them names the file with
   * the faults of the plan.
   */
  readonly env: Readonly<Record<string, string | undefined>>;
}

const nothing = new Uint8Array(0);

/** Kinds of messages for a worker's process as a whole, not for one of its Cloud TPUs. */
type Outside = { readonly kind: 'code' | 'welcome' | 'host' | 'dismiss' };
/** Messages for one Cloud TPU of a process. The {@link Node} of that Cloud TPU handles them. */
export type ToSeat = Exclude<ToNode, Outside>;

/** Period of the heartbeat messages, in ms. */
const heartbeatMs = 200;

/**
 * One Cloud TPU in a worker's process: the thread of its cores, its loader, and its links to other
 * processes. A process that also emulates lost Cloud TPUs has one more node for each of them.
 */
export class Node {
  readonly tpu: number;
  readonly #options: NodeOptions;
  readonly #programs: readonly Program[];
  readonly #memory: WebAssembly.Memory;
  readonly #words: Int32Array;
  readonly #layout: ProcessLayout;
  readonly #carrier: Carrier;
  /** Present only if a fault plan has faults for this Cloud TPU. */
  readonly #probe: EngineProbe | undefined;
  readonly #feeds: NodeFeeds;
  readonly #parameters: Parameters;
  readonly #port: MessagePort;
  readonly #task: WorkerTask;
  #life: TaskThread | undefined;
  readonly #heartbeats: NodeJS.Timeout;
  readonly #unixPath: string | undefined;
  #offer: TensorOffer | undefined;
  #generation = 0;
  /**
   * How many heartbeats were sent while the cores waited for the infeed. Each of these heartbeats
   * counts as progress, because a wait for the loader is no failure of the worker.
   */
  #waits = 0;
  /**
   * Resolves when all messages received so far have been processed. Messages are processed in order
   * of arrival. While a message takes long, all later messages wait.
   */
  #work: Promise<void> = Promise.resolve();
  /**
   * The bytes that `write` messages brought for each parameter, kept until a `set` message uses
   * them.
   */
  #drafts: Uint8Array[] = [];
  /** A copy of each parameter, from which the node answers `read` messages piece by piece. */
  #copies: readonly Uint8Array[] = [];
  #isEnded = false;

  constructor(options: NodeOptions) {
    const { tpu, assignment } = options;
    const { topology, mxu, relaxed } = assignment;
    this.tpu = tpu;
    this.#options = options;
    const torus = podTorus(topology);
    assert(tpu < torus.workers, `Cloud TPU ${tpu} of ${torus.workers}`);
    const programs = programsOf(assignment, options.code);
    this.#programs = programs;
    const processOf = Array.from({ length: torus.workers }, (_, worker) => worker);
    const hosting: Hosting = { torus, processOf, self: tpu };
    const executables = programs.map(({ executable }) => executable);
    this.#layout = layOutProcess(hosting, executables);
    this.#memory = allocate(this.#layout.bytes);
    this.#words = new Int32Array(this.#memory.buffer);
    const layout = this.#layout.threads;
    const memory = this.#memory;
    this.#unixPath = socketFile();
    if (this.#unixPath === undefined)
      options.log('no-unix-socket', { cause: 'no folder is usable for a Unix socket' });
    const faults = readFaults(options.env);
    const found = faults && faultsFor(tpu, topology, faults);
    const probe = found && { ...found, ownsProcess: true };
    const hasLinkFaults = faults !== undefined && breaksLinks(faults);
    const linkFaults = hasLinkFaults ? linkFaultsOf(tpu, topology, torus) : undefined;
    this.#probe = probe && new EngineProbe(probe, linkFaults);
    this.#carrier = new Carrier({
      ...(this.#probe && { onHop: this.#probe.hop }),
      ...{ memory, layout: this.#layout, hosting, unixPath: this.#unixPath },
      ...{ token: options.token, host: options.bind, port: options.port, linkFaults },
      stateOf: (program, steps) => this.#viewsOf(program, steps),
      unshared: (peer, cause) => options.log('unshared', { peer, cause }),
      trouble: (peer, refusal) => this.#trouble(peer, refusal),
    });
    const failed = (error: unknown): void => this.#fail('the data loader', error);
    this.#feeds = new NodeFeeds({ tpu, programs, memory, layout, failed });
    this.#parameters = new Parameters(memory, layout, programs);
    const { port1, port2: port } = new MessageChannel();
    this.#port = port1;
    const waitMsLimit = waitMsLimits[mxu];
    this.#task = {
      ...{ tpu, topology, programs, mxu, relaxed, memory, layout, port, waitMsLimit },
      engine: this.#layout.engine,
      ...(probe && { probe }),
    };
    port1.on('message', (value: unknown) => this.#say(checkFromWorker(value)));
    this.#heartbeats = setInterval(() => this.#heartbeat(), heartbeatMs);
  }

  /** Generation of the membership in which the node takes part; 0 before the first membership. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * Listens for neighbours, sends `offer` to the master, and starts the thread of the cores. Throws
   * `io` if the address cannot be bound.
   */
  async start(): Promise<void> {
    const { host } = this.#options;
    const port = await this.#carrier.listen();
    const unixPath = this.#unixPath;
    this.#offer = { host, port, ...(unixPath !== undefined && { unixPath }) };
    this.#sayOffer();
    this.#life = startTaskThread('runtime/worker', this.#task, [this.#task.port], {
      done: (lastWords) => this.#done(lastWords),
      failed: (error) => this.#fail('the thread of the cores', error),
    });
  }

  /**
   * Introduces the node to a master after a reconnection. The master may be the same as before or a
   * new one. Sends `offer` with the address `host`, and makes the worker report its state.
   */
  greet(host: string): void {
    if (this.#offer !== undefined) this.#offer = { ...this.#offer, host };
    this.#sayOffer();
    this.#port.postMessage({ kind: 'greet', generation: this.#generation });
  }

  /**
   * Called when the connection to the master is lost. Ends all waits of the cores for other Cloud
   * TPUs. Memory and parameters are kept for the next master.
   */
  pause(): void {
    this.#carrier.abort();
  }

  /** Queues a message of the master; messages are processed one after another. */
  receive(message: ToSeat): void {
    // A new membership cancels the transfers of parameters at once. Otherwise a transfer from a
    // lost peer would hold up this message and all later ones.
    if (message.kind === 'membership') this.#carrier.giveUpTakings();
    this.#work = this.#work
      .then(() => this.#take(message))
      .catch((error: unknown) => this.#fail('the worker', error));
  }

  /** Ends the thread, the loader and the sockets of the node, then calls `ended`. */
  async end(error?: PodError): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearInterval(this.#heartbeats);
    this.#carrier.abort();
    await Promise.all([this.#feeds.end(), this.#life?.end(), this.#carrier.close()]);
    this.#port.close();
    this.#options.ended(error);
  }

  #sayOffer(): void {
    if (this.#offer !== undefined) {
      const place = { pid: process.pid, hostname: hostname().slice(0, 255) };
      this.#options.send({ kind: 'offer', ...place, offer: this.#offer });
    }
  }

  async #take(message: ToSeat): Promise<void> {
    if (this.#isEnded) return;
    switch (message.kind) {
      case 'membership':
        this.#generation = message.generation;
        this.#carrier.begin(message.generation, message.offers);
        return;
      case 'pod':
        return this.#takePod(message.message);
      case 'set':
        return this.#answer(message.id, this.#set(message));
      case 'write':
        return this.#answer(message.id, this.#write(message));
      case 'read':
        return this.#answer(message.id, null, this.#read(message));
      case 'take':
        return this.#answer(message.id, await this.#takeFrom(message));
      default:
        return unreachable(message);
    }
  }

  async #takePod(message: ToWorker): Promise<void> {
    // Messages of an older generation, for example of a superseded master, are ignored.
    if (message.generation < this.#generation) return;
    switch (message.kind) {
      case 'abort':
        this.#carrier.abort();
        break;
      case 'load':
        await this.#feeds.begin(message.steps);
        break;
      case 'greet':
        break;
      case 'start-step':
        this.#feeds.release(message.program, message.step);
        this.#probe?.begin(message);
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

  /**
   * Returns a view of each parameter that a program has after `steps` steps. A peer copies the
   * parameters from these views. Returns undefined before the first membership. Used only while no
   * core runs a step.
   */
  #viewsOf(program: number, steps: number): readonly Uint8Array[] | undefined {
    const isThere = program < this.#programs.length && this.#generation > 0;
    return isThere ? this.#parameters.views({ tpu: this.tpu, program, steps }) : undefined;
  }

  #place({ program, steps }: Request): Place {
    return { tpu: this.tpu, program, steps };
  }

  /**
   * Sets a program's parameters to the values that `write` messages brought. Returns null, or the
   * reason if the hash of these values is wrong.
   */
  #set(request: ToNode & { kind: 'set' }): string | null {
    const values = this.#drafts;
    this.#drafts = [];
    if (hashValues(values) !== request.hash)
      return 'the received parameters differ from those that were sent';
    const place = this.#place(request);
    this.#parameters.clear(place);
    this.#parameters.write(place, values);
    return null;
  }

  /**
   * Stores a piece of a parameter until `set` arrives. Returns null, or the reason why the piece
   * does not fit into the parameter.
   */
  #write({ program, index, offset, bytes }: ToNode & { kind: 'write' }): string | null {
    const { executable } = at(this.#programs, program);
    const buffer = executable.buffers[executable.parameters[index] ?? -1];
    if (buffer === undefined || offset + bytes.length > buffer.bytes) {
      return `a piece of parameter ${index} does not fit into the parameter`;
    }
    this.#drafts[index] ??= new Uint8Array(buffer.bytes);
    this.#drafts[index].set(bytes, offset);
    return null;
  }

  /**
   * Copies a program's parameters from another process. Returns null, or the reason of the failure.
   */
  async #takeFrom(request: ToNode & { kind: 'take' }): Promise<string | null> {
    const { peer, generation, offer, program, steps } = request;
    const into = this.#parameters.views(this.#place(request));
    try {
      await this.#carrier.take({ offer, peer, generation, program, steps, into });
      return null;
    } catch (error) {
      return messageOf(error);
    }
  }

  /**
   * Returns a piece of a parameter. The request for the first piece of the first parameter copies
   * all parameters. All pieces are taken from that copy, so that they belong to the same step.
   */
  #read(request: ToNode & { kind: 'read' }): Uint8Array {
    const { index, offset, length } = request;
    if (index === 0 && offset === 0) this.#copies = this.#parameters.read(this.#place(request));
    return at(this.#copies, index).subarray(offset, offset + Math.min(length, pieceBytesMax));
  }

  #answer(id: number, why: string | null, bytes: Uint8Array = nothing): void {
    this.#options.send({ kind: 'answer', id, why, bytes });
  }

  // ------------------------------------------------------------------------ messages to the master

  /**
   * Forwards a message of the worker to the master, except `failed`. `#done` forwards `failed`
   * after the thread of the cores has ended.
   */
  #say(message: FromWorker): void {
    if (this.#isEnded || message.kind === 'failed') return;
    if (message.kind === 'ready') this.#options.log('ready', { generation: message.generation });
    // The all-reduces run on this thread, so only this thread knows how long they waited.
    if (message.kind === 'step-done')
      this.#tell({ ...message, linkWaitMs: this.#carrier.takeWaits() });
    else this.#tell(message);
  }

  #tell(message: FromWorker): void {
    const sent = message.kind === 'step-done' ? this.#carrier.sentPairs() : [];
    this.#options.send({ kind: 'pod', message, sent });
  }

  /**
   * Ends the node after the thread of the cores has ended. `lastWords` is the worker's `failed`
   * message, or null if the thread ended without a `failed` message.
   */
  #done(lastWords: unknown): void {
    if (this.#isEnded) return;
    if (lastWords === null) {
      this.#fail('the thread of the cores', new Error('the thread ended unexpectedly'));
      return;
    }
    const message = checkFromWorker(lastWords);
    assert(message.kind === 'failed', `last words: ${message.kind}`);
    this.#tell(message);
    void this.end(new PodError('worker-threw', message.message));
  }

  /** Reports a failure to the master and ends the node. `who` names the part that failed. */
  #fail(who: string, error: unknown): void {
    if (this.#isEnded) return;
    const code = error instanceof PodError ? error.code : 'worker-exited';
    const message = `${who} failed: ${messageOf(error)}`;
    this.#tell({ kind: 'failed', tpu: this.tpu, generation: this.#generation, code, message });
    void this.end(new PodError(code, message));
  }

  /**
   * Sends the progress counter to the master. While the cores wait for the infeed, the counter that
   * is sent grows by 1 with every heartbeat, so that the Cloud TPU is not suspected.
   */
  #heartbeat(): void {
    const line = at(this.#layout.threads.tpus, this.tpu).control / 4;
    this.#waits += Atomics.load(this.#words, line + controlWords.awaitsInfeed);
    const progress = Atomics.load(this.#words, line + controlWords.progress) >>> 0;
    this.#options.send({ kind: 'heartbeat', progress: progress + this.#waits });
  }

  /**
   * Called when a connection that carries a link has ended. Reports the peer to the master with the
   * message `accused`. If this node has found a frame corrupt or lost, reports the peer at once.
   * Otherwise waits for `troubleMs` ms, and reports the peer only if no new membership has begun.
   */
  #trouble(peer: number, refusal: Refusal): void {
    this.#options.log('link-trouble', { peer, cause: refusal.text });
    const generation = this.#generation;
    const accuse = (): void => {
      if (this.#isEnded || generation !== this.#generation) return;
      this.#tell(accusation(this.tpu, generation, peer, refusal));
    };
    if (isSpoiled(refusal)) accuse();
    else setTimeout(accuse, troubleMs).unref();
  }
}

/**
 * Returns the object that injects faults into the links that leave Cloud TPU `tpu`. The object
 * takes its random numbers from a generator with the seed `tpu`.
 */
function linkFaultsOf(tpu: number, topology: Topology, torus: Torus): LinkFaults {
  return new LinkFaults(topology, torus, mulberry32(tpu), () => performance.now());
}
