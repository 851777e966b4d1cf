import {
  linkCount,
  linkName,
  podTorus,
  type Topology,
  type Torus,
} from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { isVacant, type MasterOptions } from '../../src/pod/master.ts';
import type { Failure, FromWorker, ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, Driver, messageOf, nameOf, namesOf } from '../driver.ts';
import { isFinal } from '../final.ts';
import type { Refusal } from '../net/frame.ts';
import type { TensorOffer } from '../net/tensor-socket.ts';
import { hashValues, type Packed, packAssignment } from './assignment.ts';
import type { Guest, Lobby } from './lobby.ts';
import { type FromNode, type Piece, pieceBytesMax, type Request, type ToNode } from './messages.ts';

/** A slice whose workers are processes that join over the network. */
export interface ProcessPodOptions extends PodOptions {
  /** Whether fused multiply-adds are used where the engine has them. */
  readonly relaxed: boolean;
  /** Where its workers come from. */
  readonly lobby: Lobby;
  /** All must have joined, and then loaded, within this many ms. */
  readonly startMsLimit: number;
  /** A lost worker must be replaced within this many ms; then another worker hosts its Cloud TPU too. */
  readonly graceMsLimit: number;
  /** Asked while its workers are awaited at the start: whether to give up. */
  readonly shouldStop?: () => boolean;
  /** Asked when it closes: whether workers are to keep what they have, for another master. */
  readonly keepsWorkers?: () => boolean;
  /**
   * Whether somebody watches the processes of this machine and tells of each that dies. Then the end
   * of a connection says nothing yet of a worker that has not joined.
   */
  readonly isWatched?: boolean;
  /** Told of the pod as soon as it awaits its workers: it can say how they are. */
  readonly gathering?: (pod: ProcessPod) => void;
  /** What goes on in the cluster, for the log. */
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** A pod that can say how its workers are. */
export interface ProcessPod extends Pod {
  status(): PodStatus;
  /**
   * The process that was started last for a Cloud TPU has died: it may not have joined. Returns whether
   * the pod knows, or knew already, and decides about another.
   */
  died(tpu: number, death: Death): boolean;
}

/** How a process of this machine has ended. */
export interface Death {
  readonly pid: number;
  /** One line: its exit code or signal, and its last error. */
  readonly cause: string;
  /** Code of its last error, if it told one. */
  readonly code: string | null;
}

export interface PodStatus {
  readonly phase: string;
  readonly generation: number;
  /** Processes that wait for a Cloud TPU. */
  readonly spares: number;
  readonly tpus: readonly {
    readonly tpu: number;
    readonly state: 'absent' | 'building' | 'joined';
    readonly pid: number | null;
    /** Where others reach it. */
    readonly host: string | null;
    /** Name of its machine or container. */
    readonly hostname: string | null;
  }[];
}

/** Waits until a worker has joined for each Cloud TPU, and loads the programs. */
export async function openProcessPod(options: ProcessPodOptions): Promise<ProcessPod> {
  const pod = new Processes(options);
  options.gathering?.(pod);
  try {
    await pod.start();
  } catch (error) {
    await pod.close();
    throw error;
  }
  return pod;
}

const samplePeriodMs = 200;
const silenceMs = { fast: 1200, systolic: 60_000 } as const;
/** How long workers may take to leave when all is done, in ms. */
const leaveMsLimit = 3000;
/** How long a request may go without an answer, in ms. */
const answerMsLimit = 15_000;
/** Before something is tried again, in ms. */
const retryMs = 200;
/** To how many a Cloud TPU passes the first parameters on. */
const fanOut = 4;
/** At the start no more workers are expected once this many ms have passed since one joined last. */
const quietMsLimit = 30_000;
/** How long new workers wait, in ms, for workers that have been here before and may return. */
const returnMs = 3000;

function masterOptions(options: ProcessPodOptions): MasterOptions {
  const { topology, mxu, programs, recovery, startMsLimit, graceMsLimit } = options;
  return {
    names: namesOf(topology),
    taking: programs.map(({ parametersFrom }) => parametersFrom !== undefined),
    startMsLimit,
    quietMsLimit,
    silenceMsLimit: silenceMs[mxu],
    silenceFactor: 4,
    sampleMsLimit: 2.5 * samplePeriodMs,
    recovery: {
      policy: recovery ?? 'none',
      graceMsLimit,
      lossesPerStepMax: 5,
      lossesPerMinuteMax: 30,
    },
  };
}

/** A worker's process that has a Cloud TPU. */
interface Member {
  readonly tpu: number;
  readonly guest: Guest;
  pid: number | null;
  hostname: string | null;
  offer: TensorOffer | undefined;
  hasJoined: boolean;
  /** Why it cannot start or go on, once it has said so. */
  lastWords: Failure | undefined;
  /** Its progress counter, and how often it has been told. */
  progress: number;
  heartbeats: number;
  /** Bytes by link number, as it counts them. */
  readonly sent: Map<number, number>;
  readonly questions: Map<number, Question>;
}

/** A request that is not answered yet. */
interface Question {
  readonly deadline: NodeJS.Timeout;
  resolve(answer: FromNode & { kind: 'answer' }): void;
  reject(error: PodError): void;
}

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;
type Asked = Extract<ToNode, Request>;

/** Drives the master's state machine with the messages of the workers' processes. */
class Processes implements ProcessPod, Crew {
  readonly topology: Topology;
  /** Every worker has memory of its own; the master holds none of it. */
  readonly memoryBytes = 0;
  readonly #options: ProcessPodOptions;
  readonly #programs: readonly Program[];
  readonly #torus: Torus;
  readonly #packed: Packed;
  /** By Cloud TPU. */
  readonly #members: (Member | undefined)[];
  /** Numbers of the processes that have joined so far. */
  readonly #joined: Set<number> = new Set();
  /** By link: bytes that workers who have gone had sent. */
  readonly #carried: Map<number, number> = new Map();
  readonly #driver: Driver;
  readonly #openedMs: number = performance.now();
  #sampler: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  #isOpen = false;
  #lastId = 0;

  constructor(options: ProcessPodOptions) {
    const { topology, programs, mxu, relaxed } = options;
    this.topology = topology;
    this.#options = options;
    this.#programs = programs;
    this.#torus = podTorus(topology);
    this.#packed = packAssignment({ topology, mxu, relaxed }, programs);
    this.#members = Array.from({ length: this.#torus.workers }, () => undefined);
    this.#driver = new Driver(options, masterOptions(options), this);
  }

  async start(): Promise<void> {
    const started = this.#driver.untilReady();
    this.#options.lobby.attend(() => this.#seatAll());
    this.#sampler = setInterval(() => this.#sample(), samplePeriodMs);
    await started;
    this.#isOpen = true;
  }

  status(): PodStatus {
    const { phase, generation } = this.#driver.state;
    return {
      phase: phase.kind,
      generation,
      spares: this.#options.lobby.waiting.length,
      tpus: this.#members.map((member, tpu) => ({
        tpu,
        state: member === undefined ? 'absent' : member.hasJoined ? 'joined' : 'building',
        pid: member?.pid ?? null,
        host: member?.offer?.host ?? null,
        hostname: member?.hostname ?? null,
      })),
    };
  }

  step(program: number): Promise<Commit> {
    return this.#driver.step(program);
  }

  readParameters(program: number): Promise<readonly Uint8Array[]> {
    return this.#whileAnyLives(() => this.#read(0, program, this.#driver.stepsOf(program)));
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    await this.#whileAnyLives(() => this.#spread(program, this.#driver.stepsOf(program), values));
    this.#driver.wrote(program, values);
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

  /** Its workers wait in the lobby again when it is done. */
  async #shutDown(): Promise<void> {
    clearInterval(this.#sampler);
    this.#options.lobby.attend(undefined);
    if (this.#keepsWorkers()) {
      for (const member of this.#members) {
        if (member === undefined) continue;
        this.#unseat(member, 'the master ends');
        member.guest.close();
      }
      return;
    }
    const { generation } = this.#driver.state;
    this.#driver.give({ kind: 'stop' });
    for (const member of this.#members) {
      member?.guest.send({ kind: 'pod', message: { kind: 'stop', generation } });
    }
    const deadlineMs = performance.now() + leaveMsLimit;
    while (this.#members.some((it) => it !== undefined) && performance.now() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const member of this.#members) {
      member?.guest.refuse({ code: 'timeout', text: 'it did not leave its Cloud TPU' });
    }
  }

  /** Whether another master may need what its workers have. */
  #keepsWorkers(): boolean {
    const { failure } = this.#driver;
    const isLost = failure !== undefined && !isFinal(failure);
    return isLost || this.#options.keepsWorkers?.() === true;
  }

  // --------------------------------------------------------------------------------------- members

  /** Gives those who wait the Cloud TPUs that nobody has: each the one it had, if it may choose. */
  #seatAll(): void {
    if (this.#driver.isOver) return;
    const byGeneration = (a: Guest, b: Guest): number => b.hello.generation - a.hello.generation;
    // Those who have taken part may still have the parameters.
    const waiting = [...this.#options.lobby.waiting].sort(byGeneration);
    for (const guest of waiting) {
      const { from } = guest.hello;
      if (from < this.#members.length && this.#members[from] === undefined) this.#seat(guest, from);
    }
    if (this.#awaitsReturns()) return;
    for (const guest of waiting) {
      if (!guest.isWaiting) continue;
      const tpu = this.#members.findIndex((it, i) => it === undefined && this.#isVacant(i));
      if (tpu < 0) return;
      this.#seat(guest, tpu);
    }
  }

  /** One that another process was asked to host is left to it. */
  #isVacant(tpu: number): boolean {
    return isVacant(this.#driver.state, tpu);
  }

  /** Whether those who may still have the parameters come first. */
  #awaitsReturns(): boolean {
    const isNew = performance.now() - this.#openedMs < returnMs;
    return isNew && this.#options.start?.isEstablished === true;
  }

  #seat(guest: Guest, tpu: number): void {
    const member: Member = {
      ...{ tpu, guest, pid: null, hostname: null, offer: undefined },
      ...{ hasJoined: false, lastWords: undefined, progress: 0, heartbeats: 0 },
      sent: new Map(),
      questions: new Map(),
    };
    this.#members[tpu] = member;
    guest.seat({
      message: (message) => {
        if (this.#members[tpu] === member) this.#receive(member, message);
      },
      closed: (refusal) => this.#closed(member, refusal),
    });
    const { assignment, code } = this.#packed;
    for (const { offset, length } of pieces(code.length)) {
      guest.send({ kind: 'code', bytes: code.subarray(offset, offset + length) });
    }
    guest.send({ kind: 'welcome', tpu, assignment });
  }

  /** It has no Cloud TPU any more, and waits. */
  #unseat(member: Member, reason: string): void {
    member.guest.unseat();
    this.#forget(member, reason);
  }

  #forget({ tpu, sent, questions }: Member, reason: string): void {
    this.#members[tpu] = undefined;
    addAll(this.#carried, sent);
    const name = nameOf(this.topology, tpu);
    for (const { deadline, reject } of questions.values()) {
      clearTimeout(deadline);
      reject(new PodError('worker-exited', `${name}: ${reason}`));
    }
    questions.clear();
  }

  died(tpu: number, { pid, cause, code }: Death): boolean {
    if (this.#driver.isOver) return false;
    // The end of its connection tells of one that has joined.
    if (this.#joined.delete(pid)) return true;
    const member = this.#members[tpu];
    if (member === undefined ? !this.#isVacant(tpu) : member.pid !== pid) return false;
    if (member !== undefined) this.#unseat(member, cause);
    this.#options.log('worker-gone', { tpu, pid, cause });
    this.#driver.give({ kind: 'exited', tpu, reason: cause, code });
    this.#seatAll();
    return true;
  }

  /** Its connection has ended: by itself, or because of what one of the two ends did. */
  #closed(member: Member, refusal: Refusal | undefined): void {
    const isItsEnd = refusal === undefined || refusal.code === 'peer';
    const { hasJoined, lastWords } = member;
    const isWatched = this.#options.isWatched === true;
    const isLost = hasJoined || (!isWatched && (lastWords !== undefined || isItsEnd));
    this.#gone(member, refusal?.text ?? 'its connection was closed', isLost);
  }

  /** It has no Cloud TPU any more; one that is not lost leaves its place to another, until the deadline. */
  #gone(member: Member, reason: string, isLost: boolean): void {
    const { tpu, pid, hostname, lastWords } = member;
    if (this.#members[tpu] !== member) return;
    const cause = lastWords?.message ?? reason;
    this.#unseat(member, cause);
    this.#options.log('worker-gone', { tpu, pid, hostname, cause });
    if (isLost) {
      this.#driver.give({ kind: 'exited', tpu, reason: cause, code: lastWords?.code ?? null });
    }
    this.#seatAll();
  }

  #receive(member: Member, message: FromNode): void {
    switch (message.kind) {
      case 'offer':
        member.pid = message.pid;
        member.hostname = message.hostname;
        member.offer = message.offer;
        return;
      case 'pod':
        this.#hear(member, message);
        return;
      case 'heartbeat':
        member.progress = message.progress;
        member.heartbeats++;
        return;
      case 'answer': {
        const question = member.questions.get(message.id);
        member.questions.delete(message.id);
        clearTimeout(question?.deadline);
        question?.resolve(message);
        return;
      }
      case 'left':
        if (this.#driver.isOver) this.#unseat(member, 'it has left');
        else this.#gone(member, 'it left its Cloud TPU', member.hasJoined);
        return;
      case 'unable':
        member.lastWords = message;
        this.#tellUnable(member, message);
        return;
      case 'dismissed':
        // The lobby has heard it.
        return;
      default:
        unreachable(message);
    }
  }

  #tellUnable({ tpu, pid, hostname }: Member, { code, message }: Failure): void {
    this.#options.log('worker-unable', { tpu, pid, hostname, code, cause: message });
  }

  #hear(member: Member, { message, sent }: FromNode & { kind: 'pod' }): void {
    const { tpu, guest, offer, pid, hostname } = member;
    if (message.tpu !== tpu) {
      guest.refuse({ code: 'message', text: 'it speaks for another' });
      return;
    }
    if (message.kind === 'joined') {
      if (offer === undefined) {
        guest.refuse({ code: 'message', text: 'it joins before its offer' });
        return;
      }
      member.hasJoined = true;
      if (pid !== null) this.#joined.add(pid);
      const { generation } = this.#driver.state;
      this.#options.log('joined', { tpu, generation, pid, hostname, host: offer.host });
    }
    for (let i = 0; i + 1 < sent.length; i += 2) {
      if (at(sent, i) < linkCount(this.#torus)) member.sent.set(at(sent, i), at(sent, i + 1));
    }
    this.#driver.give({ kind: 'message', message: copied(message) });
  }

  #sample(): void {
    if (!this.#isOpen && this.#options.shouldStop?.()) {
      this.#driver.serviceFailed('the start', new PodError('worker-silent', 'it was given up'));
    }
    this.#seatAll();
    const progress = this.#members.map((it) => it?.progress ?? 0);
    const heartbeats = this.#members.map((it) => it?.heartbeats ?? 0);
    this.#driver.give({ kind: 'sample', progress, heartbeats });
  }

  // ------------------------------------------------------------------------------------------ crew

  send(tpu: number, message: ToWorker): void {
    const guest = this.#members[tpu]?.guest;
    if (message.kind === 'load') {
      const offers = this.#members.map((it) => it?.offer ?? nowhere);
      guest?.send({ kind: 'membership', generation: message.generation, offers });
    }
    guest?.send({ kind: 'pod', message });
  }

  refused(message: FromWorker, reason: string): void {
    this.#options.log('refused', { tpu: message.tpu, kind: message.kind, cause: reason });
  }

  abort(): void {
    // Each worker is told to leave its step; nothing else of it can be reached from here.
  }

  replace(tpu: number): void {
    const member = this.#members[tpu];
    if (member !== undefined) {
      this.#forget(member, 'it is being replaced');
      member.guest.refuse({ code: 'generation', text: 'it is being replaced' });
    }
    this.#seatAll();
  }

  adopt(tpu: number, host: number): void {
    this.#members[host]?.guest.send({ kind: 'host', tpu });
  }

  reset(): void {
    // Each process makes its links and feeds new when it hears of the membership.
  }

  release(): void {
    // Each process counts its steps by itself.
  }

  async restore(tpu: number, from: number, steps: readonly number[]): Promise<void> {
    for (const [program, { parametersFrom }] of this.#programs.entries()) {
      if (parametersFrom === undefined) await this.#take(tpu, from, program, at(steps, program));
    }
  }

  /** Before the membership's links are made: each is given them from here. */
  async rollBack(saved: readonly (SavedParameters | undefined)[]): Promise<void> {
    for (const [program, it] of saved.entries()) {
      if (it === undefined) continue;
      const { steps, values } = it;
      await Promise.all(this.#members.map((_, tpu) => this.#write(tpu, program, steps, values)));
    }
  }

  // ------------------------------------------------------------------------------------ parameters

  /** Does it between steps, again whenever a Cloud TPU was lost meanwhile. */
  async #whileAnyLives<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.#driver.untilReady();
      const { generation } = this.#driver.state;
      try {
        return await work();
      } catch (error) {
        if (generation === this.#driver.state.generation) throw this.#driver.failure ?? error;
      }
    }
  }

  /** Sets a program's parameters on Cloud TPU 0, from which they go to all others along a tree. */
  async #spread(program: number, steps: number, values: readonly Uint8Array[]): Promise<void> {
    const done: Promise<void>[] = [this.#write(0, program, steps, values)];
    for (let tpu = 1; tpu < this.#members.length; tpu++) {
      const parent = Math.floor((tpu - 1) / fanOut);
      done[tpu] = at(done, parent).then(() => this.#take(tpu, parent, program, steps));
    }
    await Promise.all(done);
  }

  async #read(tpu: number, program: number, steps: number): Promise<Uint8Array[]> {
    const { executable } = at(this.#programs, program);
    const values: Uint8Array[] = [];
    for (const [index, id] of executable.parameters.entries()) {
      const value = new Uint8Array(at(executable.buffers, id).bytes);
      for (const { offset, length } of pieces(value.length)) {
        const piece: Piece = { index, offset };
        const bytes = await this.#ask(tpu, { kind: 'read', program, steps, length, ...piece });
        assert(bytes.length === length, `${bytes.length} bytes of a parameter, not ${length}`);
        value.set(bytes, offset);
      }
      values.push(value);
    }
    return values;
  }

  async #write(
    tpu: number,
    program: number,
    steps: number,
    values: readonly Uint8Array[],
  ): Promise<void> {
    for (const [index, value] of values.entries()) {
      for (const { offset, length } of pieces(value.length)) {
        const bytes = value.subarray(offset, offset + length);
        await this.#ask(tpu, { kind: 'write', program, steps, index, offset, bytes });
      }
    }
    await this.#ask(tpu, { kind: 'set', program, steps, hash: hashValues(values) });
  }

  /**
   * Lets a process take a program's parameters from another, between the two of them. That one of
   * them has gone may be known here later than there: until then it is tried again.
   */
  async #take(tpu: number, peer: number, program: number, steps: number): Promise<void> {
    const offer = this.#members[peer]?.offer ?? nowhere;
    const { generation } = this.#driver.state;
    const deadlineMs = performance.now() + answerMsLimit;
    for (;;) {
      try {
        await this.#ask(tpu, { kind: 'take', program, steps, peer, generation, offer });
        return;
      } catch (error) {
        if (generation !== this.#driver.state.generation || performance.now() > deadlineMs)
          throw error;
        this.#options.log('take-again', { tpu, generation, cause: messageOf(error) });
        await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    }
  }

  /** Asks a process; gives the bytes of its answer. Who does not answer in time is cut off. */
  #ask(tpu: number, request: Unnumbered<Asked>): Promise<Uint8Array> {
    const member = this.#members[tpu];
    const name = nameOf(this.topology, tpu);
    if (member === undefined) {
      return Promise.reject(
        this.#driver.failure ?? new PodError('worker-exited', `${name} is gone`),
      );
    }
    this.#lastId++;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => {
        member.guest.refuse({ code: 'timeout', text: `no answer in ${answerMsLimit} ms` });
      }, answerMsLimit);
      member.questions.set(id, {
        ...{ deadline, reject },
        resolve({ why, bytes }) {
          if (why === null) resolve(Uint8Array.from(bytes));
          else reject(new PodError('worker-threw', `${name}: ${why}`));
        },
      });
      member.guest.send({ ...request, id } as ToNode);
    });
  }
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
