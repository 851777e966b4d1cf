import { performance } from 'node:perf_hooks';
import type { TrainConfig } from '../../src/experiment/config.ts';
import { linkName, podTorus, type Topology, type Torus } from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import {
  initialMaster,
  isOver,
  type MasterAction,
  type MasterEvent,
  type MasterOptions,
  type MasterState,
  master,
  type Transition,
} from '../../src/pod/master.ts';
import type { FromWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program, SavedParameters } from '../../src/pod/pod.ts';
import { type ChannelEvents, type ControlChannel, listenControl } from '../net/control.ts';
import type { Refusal } from '../net/frame.ts';
import { type Hello, unnumbered } from '../net/handshake.ts';
import type { Listener } from '../net/listen.ts';
import type { TensorOffer } from '../net/tensor-socket.ts';
import type { Token } from '../net/token.ts';
import { encodeAssignment, hashExecutables, hashValues } from './assignment.ts';
import {
  checkFromNode,
  type FromNode,
  type Piece,
  pieceBytesMax,
  type Request,
  type ToNode,
} from './messages.ts';

/** A slice whose workers are processes that join over the network. */
export interface ProcessPodOptions extends PodOptions {
  /** From which every worker compiles the programs itself. */
  readonly config: TrainConfig;
  readonly relaxed: boolean;
  readonly token: Token;
  /** Where workers join; port 0 for any. */
  readonly host: string;
  readonly port: number;
  /** All must have joined, and then loaded, within this many ms. */
  readonly startMsLimit: number;
  /** What goes on in the cluster, for the log. */
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** A pod that can say how its workers are. */
export interface ProcessPod extends Pod {
  readonly port: number;
  status(): PodStatus;
}

export interface PodStatus {
  readonly phase: string;
  readonly epoch: number;
  readonly tpus: readonly {
    readonly tpu: number;
    readonly state: 'absent' | 'building' | 'joined';
    readonly pid: number | null;
    readonly host: string | null;
  }[];
}

/** Listens, waits until a worker has joined for each Cloud TPU, and loads the programs. */
export async function openProcessPod(options: ProcessPodOptions): Promise<ProcessPod> {
  const pod = new Processes(options);
  try {
    await pod.start();
  } catch (error) {
    await pod.close();
    throw error;
  }
  return pod;
}

const samplePeriodMs = 200;
/** Workers compile while they join: they answer pings late. Pulses tell who hangs. */
const heartbeatMs = 10_000;
/** Processes of one small machine wait for each other: silence counts less, the more there are. */
const tpusPerSilence = 8;
const silenceMs = { fast: 1200, systolic: 60_000 } as const;
/** How long workers may take to leave when all is done, in ms. */
const leaveMsLimit = 3000;

function masterOptions(options: ProcessPodOptions): MasterOptions {
  const { topology, mxu, programs, recovery, startMsLimit } = options;
  const tpus = topology.columns * topology.rows;
  return {
    names: Array.from({ length: tpus }, (_, tpu) => nameOf(topology, tpu)),
    taking: programs.map(({ parametersFrom }) => parametersFrom !== undefined),
    startMsLimit,
    silenceMsLimit: silenceMs[mxu] * Math.max(1, tpus / tpusPerSilence),
    silenceFactor: 4,
    sampleMsLimit: 2.5 * samplePeriodMs,
    recovery: {
      policy: recovery ?? 'none',
      graceMsLimit: 60_000,
      lossesPerStepMax: 5,
      lossesPerMinuteMax: 30,
    },
  };
}

function nameOf({ columns }: Topology, tpu: number): string {
  return `Cloud TPU ${tpu} (x ${tpu % columns}, y ${Math.floor(tpu / columns)})`;
}

/** A worker's process. */
interface Member {
  readonly tpu: number;
  readonly channel: ControlChannel<ToNode>;
  pid: number | null;
  offer: TensorOffer | undefined;
  hasJoined: boolean;
  beats: number;
  /** Bytes by link number, as it counts them. */
  readonly sent: Map<number, number>;
  readonly requests: Map<number, Waiter<FromNode & { kind: 'answer' }>>;
}

interface Waiter<T> {
  readonly sinceMs: number;
  resolve(value: T): void;
  reject(error: PodError): void;
}

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;
type Asked = Extract<ToNode, Request>;

/** Drives the master's state machine with the messages of the workers' processes. */
class Processes implements ProcessPod {
  readonly topology: Topology;
  /** Every worker has memory of its own; the master holds none of it. */
  readonly memoryBytes = 0;
  readonly #options: ProcessPodOptions;
  readonly #programs: readonly Program[];
  readonly #torus: Torus;
  readonly #assignment: string;
  readonly #hash: string;
  /** By Cloud TPU. */
  readonly #members: (Member | undefined)[];
  /** By link: bytes that workers who have gone had sent. */
  readonly #carried: Map<number, number> = new Map();
  readonly #events: MasterEvent[] = [];
  readonly #stale: boolean[];
  readonly #written: (SavedParameters | undefined)[];
  #state: MasterState;
  #waiter: Waiter<Commit | undefined> | undefined;
  #listener: Listener | undefined;
  #sampler: NodeJS.Timeout | undefined;
  #failure: PodError | undefined;
  #closing: Promise<void> | undefined;
  #lastId = 0;

  constructor(options: ProcessPodOptions) {
    const { topology, programs, config, relaxed } = options;
    this.topology = topology;
    this.#options = options;
    this.#programs = programs;
    this.#torus = podTorus(topology);
    this.#hash = hashExecutables(programs.map(({ executable }) => executable));
    this.#assignment = encodeAssignment({
      ...{ config, relaxed, hash: this.#hash },
      programs: programs.map(({ executable: _, ...rest }) => rest),
    });
    this.#members = Array.from({ length: this.#torus.workers }, () => undefined);
    this.#stale = programs.map(() => true);
    this.#written = programs.map(() => undefined);
    this.#state = initialMaster(masterOptions(options), performance.now(), options.start);
  }

  get port(): number {
    return this.#listener?.port ?? 0;
  }

  async start(): Promise<void> {
    const { token, host, port, log } = this.#options;
    this.#listener = await listenControl<FromNode, ToNode>({
      ...{ token, host, port, heartbeatMs, check: checkFromNode },
      admit: (hello) => this.#admit(hello),
      joined: (channel) => this.#join(channel),
      turnedAway: (address, { code, text }) => log('turned-away', { address, code, cause: text }),
    });
    log('listening', { port: this.#listener.port });
    const started = this.#await();
    this.#sampler = setInterval(() => this.#sample(), samplePeriodMs);
    await started;
  }

  status(): PodStatus {
    return {
      phase: this.#state.phase.kind,
      epoch: this.#state.epoch,
      tpus: this.#members.map((member, tpu) => ({
        tpu,
        state: member === undefined ? 'absent' : member.hasJoined ? 'joined' : 'building',
        pid: member?.pid ?? null,
        host: member?.offer?.host ?? null,
      })),
    };
  }

  async step(program: number): Promise<Commit> {
    await this.#untilReady();
    const takesParameters = at(this.#programs, program).parametersFrom !== undefined;
    const step = at(this.#state.told, program);
    const takeParameters = takesParameters && at(this.#stale, program);
    const committed = this.#await();
    this.#give({ kind: 'begin-step', order: { program, step, takeParameters } });
    const commit = await committed;
    assert(commit !== undefined, `step ${step} ended without a commit`);
    this.#stale[program] = false;
    this.#parametersChanged(program);
    return commit;
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    await this.#untilReady();
    return this.#read(0, program, at(this.#state.told, program));
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    await this.#untilReady();
    const steps = at(this.#state.told, program);
    await Promise.all(this.#members.map((_, tpu) => this.#write(tpu, program, steps, values)));
    this.#parametersChanged(program);
    this.#written[program] = { steps, values };
  }

  linkBytes(): Readonly<Record<string, number>> {
    const counts = new Map(this.#carried);
    for (const member of this.#members) if (member !== undefined) addAll(counts, member.sent);
    const links = Array.from({ length: this.#torus.workers * 16 }, (_, link) => link);
    return Object.fromEntries(
      links.map((link) => [linkName(this.#torus, link), counts.get(link) ?? 0]),
    );
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    clearInterval(this.#sampler);
    this.#give({ kind: 'stop' });
    const stop: ToNode = { kind: 'pod', message: { kind: 'stop', epoch: this.#state.epoch } };
    for (const member of this.#members) member?.channel.send(stop);
    const deadlineMs = performance.now() + leaveMsLimit;
    while (this.#members.some((it) => it !== undefined) && performance.now() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await this.#listener?.close();
  }

  // --------------------------------------------------------------------------------------- members

  #admit({ role, from }: Hello): Refusal | undefined {
    if (role !== 'worker') return { code: 'peer', text: `a ${role} has no place here` };
    if (isOver(this.#state)) return { code: 'peer', text: 'the run is over' };
    if (from === unnumbered) {
      return this.#members.includes(undefined)
        ? undefined
        : { code: 'peer', text: `all ${this.#members.length} Cloud TPUs have a worker` };
    }
    if (from >= this.#members.length) {
      return { code: 'peer', text: `there is no Cloud TPU ${from} of ${this.#members.length}` };
    }
    if (this.#members[from] === undefined) return undefined;
    return { code: 'peer', text: `Cloud TPU ${from} has a worker` };
  }

  #join(channel: ControlChannel<ToNode>): ChannelEvents<FromNode> {
    const { from } = channel.hello;
    const tpu = from === unnumbered ? this.#members.indexOf(undefined) : from;
    const member: Member = {
      ...{ tpu, channel, pid: null, offer: undefined, hasJoined: false, beats: 0 },
      sent: new Map(),
      requests: new Map(),
    };
    this.#members[tpu] = member;
    channel.send({ kind: 'welcome', tpu, assignment: this.#assignment });
    return {
      message: (message) => {
        if (this.#members[tpu] === member) this.#receive(member, message);
      },
      closed: (refusal) => this.#gone(member, refusal?.text ?? 'its connection was closed'),
    };
  }

  #gone(member: Member, reason: string): void {
    const { tpu, requests, sent, hasJoined } = member;
    if (this.#members[tpu] === member) {
      this.#members[tpu] = undefined;
      addAll(this.#carried, sent);
      this.#options.log('worker-gone', { tpu, cause: reason });
      // One that had not joined leaves its place to another, until the deadline.
      if (hasJoined) this.#give({ kind: 'exited', tpu, reason });
    }
    const name = nameOf(this.topology, tpu);
    for (const request of requests.values()) {
      request.reject(new PodError('worker-exited', `${name}: ${reason}`));
    }
    requests.clear();
  }

  #receive(member: Member, message: FromNode): void {
    const { tpu } = member;
    switch (message.kind) {
      case 'offer':
        this.#takeOffer(member, message);
        return;
      case 'pod':
        if (message.message.tpu !== tpu) {
          this.#refuse(member, 'it speaks for another');
          return;
        }
        if (message.message.kind === 'joined') {
          if (member.offer === undefined) {
            this.#refuse(member, 'it joins before its offer');
            return;
          }
          member.hasJoined = true;
          this.#options.log('joined', { tpu, epoch: this.#state.epoch, pid: member.pid });
        }
        for (let i = 0; i + 1 < message.sent.length; i += 2) {
          member.sent.set(at(message.sent, i), at(message.sent, i + 1));
        }
        this.#give({ kind: 'message', message: copied(message.message) });
        return;
      case 'pulse':
        member.beats = message.beats;
        return;
      case 'answer': {
        const request = member.requests.get(message.id);
        member.requests.delete(message.id);
        request?.resolve(message);
        return;
      }
      default:
        unreachable(message);
    }
  }

  #takeOffer(member: Member, { pid, offer, hash }: FromNode & { kind: 'offer' }): void {
    if (hash !== this.#hash) {
      this.#refuse(member, 'it has compiled other programs');
      return;
    }
    member.pid = pid;
    member.offer = offer;
  }

  #refuse({ channel }: Member, text: string): void {
    channel.refuse({ code: 'message', text });
  }

  // --------------------------------------------------------------------------------- state machine

  #sample(): void {
    this.#give({ kind: 'sample', pulses: this.#members.map((it) => it?.beats ?? 0) });
  }

  /** One event after another: what an action brings about waits for the actions beside it. */
  #give(event: MasterEvent): void {
    if (this.#events.push(event) > 1) return;
    try {
      for (let next = this.#events[0]; next !== undefined; next = this.#events[0]) {
        this.#take(next);
        this.#events.shift();
      }
    } finally {
      this.#events.length = 0;
    }
  }

  #take(event: MasterEvent): void {
    if (isOver(this.#state)) return;
    const { state, actions } = this.#recorded(master(this.#state, event, performance.now()));
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  /** A membership begins when it is written down: if it cannot be, nobody hears of it. */
  #recorded(next: Transition): Transition {
    const { epoch } = next.state;
    if (epoch === this.#state.epoch) return next;
    try {
      this.#options.onMembership?.(epoch);
      return next;
    } catch (error) {
      return master(this.#state, failureOf('the log of the run', error), performance.now());
    }
  }

  #perform(action: MasterAction): void {
    switch (action.kind) {
      case 'send':
        this.#send(action);
        return;
      case 'ready':
        this.#settle(undefined);
        return;
      case 'commit':
        this.#settle(this.#commitOf(action));
        return;
      case 'refused':
        this.#options.log('refused', { tpu: action.message.tpu, cause: action.reason });
        return;
      case 'abort':
      case 'repeated':
        // Each worker is told to leave its step; it counts steps by itself.
        return;
      case 'replace':
        this.#replace(action.tpu);
        return;
      case 'adopt': {
        const message = 'no worker joined for it in time';
        const who = nameOf(this.topology, action.tpu);
        this.#give({ kind: 'service-failed', who, code: 'worker-exited', message });
        return;
      }
      case 'reset':
        // What a replacement's other programs took over is gone with the one before.
        this.#stale.fill(true);
        return;
      case 'rewind':
        this.#background(this.#rewind(action.epoch), 'the return to a checkpoint');
        return;
      case 'restore':
        this.#background(this.#restore(action), 'the copy of the parameters');
        return;
      case 'note':
        this.#options.onNote?.(action.note);
        return;
      case 'failed':
        this.#fail(new PodError(action.code, action.message));
        return;
      default:
        unreachable(action);
    }
  }

  #send({ tpu, message }: MasterAction & { kind: 'send' }): void {
    const channel = this.#members[tpu]?.channel;
    if (message.kind === 'load') {
      const offers = this.#members.map((it) => it?.offer ?? nowhere);
      channel?.send({ kind: 'membership', epoch: message.epoch, offers });
    }
    channel?.send({ kind: 'pod', message });
  }

  /** Whoever connects next takes the place. */
  #replace(tpu: number): void {
    const member = this.#members[tpu];
    if (member === undefined) return;
    this.#members[tpu] = undefined;
    addAll(this.#carried, member.sent);
    member.channel.refuse({ code: 'peer', text: 'it is being replaced' });
  }

  #background(work: Promise<void>, who: string): void {
    const { epoch } = this.#state;
    work.catch((error: unknown) => {
      // A worker that went meanwhile has begun another membership.
      if (epoch !== this.#state.epoch) return;
      this.#give(failureOf(who, error));
    });
  }

  #commitOf({ order, digest, reports }: MasterAction & { kind: 'commit' }): Commit {
    const wallMs = performance.now() - (this.#waiter?.sinceMs ?? 0);
    return { program: order.program, step: order.step, digest, reports, wallMs };
  }

  async #untilReady(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state.phase.kind === 'ready') return;
    assert(this.#state.phase.kind !== 'done', 'the pod is closed');
    await this.#await();
  }

  #await(): Promise<Commit | undefined> {
    assert(this.#waiter === undefined, 'one step at a time');
    return new Promise((resolve, reject) => {
      this.#waiter = { sinceMs: performance.now(), resolve, reject };
    });
  }

  #settle(commit: Commit | undefined): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(commit);
  }

  #fail(error: PodError): void {
    this.#failure = error;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    void this.close();
    waiter?.reject(error);
  }

  // ------------------------------------------------------------------------------------ parameters

  async #read(tpu: number, program: number, steps: number): Promise<Uint8Array[]> {
    const { executable } = at(this.#programs, program);
    const values: Uint8Array[] = [];
    for (const [index, id] of executable.parameters.entries()) {
      const value = new Uint8Array(at(executable.buffers, id).bytes);
      for (const { offset, length } of pieces(value.length)) {
        const piece: Piece = { index, offset };
        const { bytes } = await this.#ask(tpu, { kind: 'read', program, steps, length, ...piece });
        assert(bytes.length === length, `${bytes.length} bytes of a parameter, not ${length}`);
        value.set(bytes, offset);
      }
      values.push(value);
    }
    return values;
  }

  /** Nothing large is sent when the worker has the values already: those that a run starts from. */
  async #write(
    tpu: number,
    program: number,
    steps: number,
    values: readonly Uint8Array[],
  ): Promise<void> {
    const request = { program, steps, hash: hashValues(values) };
    const initial = await this.#ask(tpu, { kind: 'set', from: 'initial', ...request });
    if (initial.done) return;
    for (const [index, value] of values.entries()) {
      for (const { offset, length } of pieces(value.length)) {
        const bytes = value.subarray(offset, offset + length);
        await this.#ask(tpu, { kind: 'write', program, steps, index, offset, bytes });
      }
    }
    const written = await this.#ask(tpu, { kind: 'set', from: 'written', ...request });
    const name = nameOf(this.topology, tpu);
    if (!written.done) throw new PodError('worker-threw', `${name} got other parameters than sent`);
  }

  #ask(tpu: number, request: Unnumbered<Asked>): Promise<FromNode & { kind: 'answer' }> {
    const member = this.#members[tpu];
    return new Promise((resolve, reject) => {
      if (member === undefined) {
        const name = nameOf(this.topology, tpu);
        return reject(this.#failure ?? new PodError('worker-exited', `${name} is gone`));
      }
      this.#lastId++;
      member.requests.set(this.#lastId, { sinceMs: performance.now(), resolve, reject });
      member.channel.send({ ...request, id: this.#lastId } as ToNode);
    });
  }

  async #restore({ tpu, from, epoch }: MasterAction & { kind: 'restore' }): Promise<void> {
    for (const [program, { parametersFrom }] of this.#programs.entries()) {
      if (from === null || parametersFrom !== undefined) continue;
      const steps = at(this.#state.steps, program);
      await this.#write(tpu, program, steps, await this.#read(from, program, steps));
    }
    this.#give({ kind: 'restored', tpu, epoch });
  }

  /** Goes back to parameters that were saved, or written: on every Cloud TPU, as it restores. */
  async #rewind(epoch: number): Promise<void> {
    const saved = await this.#options.saved?.(0, at(this.#state.told, 0));
    const known = saved ?? this.#written[0];
    if (known === undefined)
      throw new PodError('worker-exited', 'no copy of the parameters is left');
    const steps = this.#state.steps.map((before, i) => (i === 0 ? known.steps : before));
    await Promise.all(
      this.#members.map((_, tpu) => this.#write(tpu, 0, known.steps, known.values)),
    );
    this.#give({ kind: 'rewound', epoch, steps });
  }

  #parametersChanged(program: number): void {
    this.#programs.forEach(({ parametersFrom }, other) => {
      if (parametersFrom === program) this.#stale[other] = true;
    });
  }
}

function failureOf(who: string, error: unknown): MasterEvent {
  const code = error instanceof PodError ? error.code : null;
  const message = error instanceof Error ? error.message : String(error);
  return { kind: 'service-failed', who, code, message };
}

const nowhere: TensorOffer = { host: '', port: 0 };

function addAll(counts: Map<number, number>, more: ReadonlyMap<number, number>): void {
  for (const [link, bytes] of more) counts.set(link, (counts.get(link) ?? 0) + bytes);
}

function pieces(bytes: number): { readonly offset: number; readonly length: number }[] {
  const count = Math.ceil(bytes / pieceBytesMax);
  return Array.from({ length: count }, (_, i) => {
    const offset = i * pieceBytesMax;
    return { offset, length: Math.min(pieceBytesMax, bytes - offset) };
  });
}

/** What a decoder gives may lie in a buffer that is used again. */
function copied(message: FromWorker): FromWorker {
  if (message.kind !== 'step-done') return message;
  return { ...message, outfeed: message.outfeed.map((it) => Uint8Array.from(it)) };
}
