import {
  linkCount,
  linkName,
  podTorus,
  type Topology,
  type Torus,
} from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { messageOf, PodError } from '../../src/numerics/error.ts';
import { isVacant } from '../../src/pod/master/master.ts';
import type { Failure, FromWorker, ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, Driver, nameOf } from '../driver.ts';
import { isFinal } from '../final.ts';
import { masterOptions } from '../master-options.ts';
import type { Refusal } from '../net/frame.ts';
import type { TensorOffer } from '../net/tensor-socket.ts';
import { hashValues, type Packed, packAssignment } from './assignment.ts';
import type { JoinedProcess, Lobby } from './lobby.ts';
import { type FromNode, type Piece, pieceBytesMax, type Request, type ToNode } from './messages.ts';

/** Options of a slice whose workers are processes that join over the network. */
export interface ProcessPodOptions extends PodOptions {
  /** True if fused multiply-adds (relaxed SIMD) are used on engines that have them. */
  readonly relaxed: boolean;
  /** The lobby from which the pod takes its workers. */
  readonly lobby: Lobby;
  /**
   * Limit in ms for all workers to join at the start. When all have joined, the same limit applies
   * to the loading of their programs.
   */
  readonly startMsLimit: number;
  /**
   * Limit in ms for a replacement of a lost worker to join. If no replacement joins in time, one of
   * the other workers emulates the lost Cloud TPU in addition to its own.
   */
  readonly graceMsLimit: number;
  /**
   * Called periodically until the pod has started. If the function returns true, the start fails
   * with `worker-silent`.
   */
  readonly shouldStop?: () => boolean;
  /**
   * Called when the pod closes. Returns true if the workers must keep their parameters for another
   * master; false if they may give up their Cloud TPUs.
   */
  readonly keepsWorkers?: () => boolean;
  /**
   * True if the master watches the workers' processes and calls `died` for each death. Decides when
   * a worker counts as lost whose connection ends before the worker has joined. If true, the worker
   * counts as lost when `died` is called. If false, the worker counts as lost at once if it has
   * reported `unable` or if the master has not ended the connection itself.
   */
  readonly isWatched?: boolean;
  /**
   * Called with the pod while its workers are still joining, so that the caller can show their
   * status.
   */
  readonly gathering?: (pod: ProcessPod) => void;
  /** Receives the events of the cluster for the log. */
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** A pod that reports the status of its workers. */
export interface ProcessPod extends Pod {
  /** Returns the phase of the master and the state of every Cloud TPU. */
  status(): PodStatus;
  /**
   * Reports the death of the newest process of Cloud TPU `tpu`, whether that process had joined or
   * not. Returns true if the pod handles the loss and decides about a replacement. Returns false if
   * the caller must start a new process.
   */
  died(tpu: number, death: Death): boolean;
}

/** The end of a worker's process on this machine. */
export interface Death {
  readonly pid: number;
  /** One line: exit code or signal of the process, and its last error. */
  readonly cause: string;
  /** Code of the last error in the log of the process, or null. */
  readonly code: string | null;
}

/** State of a pod at one moment. */
export interface PodStatus {
  readonly phase: string;
  readonly generation: number;
  /** How many processes wait for a Cloud TPU. */
  readonly spares: number;
  readonly tpus: readonly {
    readonly tpu: number;
    readonly state: 'absent' | 'building' | 'joined';
    readonly pid: number | null;
    /** Address at which other processes reach the worker. */
    readonly host: string | null;
    /** Name of the worker's machine or container. */
    readonly hostname: string | null;
  }[];
}

/**
 * Opens a pod. Waits until each Cloud TPU has a worker and all workers have loaded the programs. If
 * this fails, closes the pod and then rejects with a PodError.
 */
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

/**
 * Interval in ms at which the progress counters of all Cloud TPUs are passed to the failure
 * detector.
 */
const samplePeriodMs = 200;
/** Longest time in ms that a closing pod waits until the workers have given up their Cloud TPUs. */
const leaveMsLimit = 3000;
/**
 * Longest time in ms that the master waits for the answer to a request. After that time the master
 * disconnects the worker.
 */
const answerMsLimit = 15_000;
/** Wait in ms before the next attempt after a failed copy of parameters. */
const retryMs = 200;
/**
 * Largest number of Cloud TPUs that copy the parameters from the same Cloud TPU. The copies form a
 * tree with Cloud TPU 0 at the root.
 */
const fanOut = 4;
/**
 * While the pod starts: if no new worker joins for this many ms, the master stops waiting for more
 * workers. The workers that have joined then also emulate the remaining Cloud TPUs.
 */
const quietMsLimit = 30_000;
/**
 * Time in ms during which a master that continues a run keeps each Cloud TPU free for its former
 * worker, which may still have the parameters. After that time any worker gets a free Cloud TPU.
 */
const returnMs = 3000;

/** A Cloud TPU that the master has given to a worker's process, and the state of that process. */
interface Member {
  readonly tpu: number;
  readonly guest: JoinedProcess;
  pid: number | null;
  hostname: string | null;
  offer: TensorOffer | undefined;
  hasJoined: boolean;
  /** The error that the process reported with `unable`; undefined if it has reported none. */
  lastWords: Failure | undefined;
  /** Progress counter of the Cloud TPU, from the last heartbeat message. */
  progress: number;
  /** How many heartbeat messages the master has received from the process. */
  heartbeats: number;
  /** Bytes that the process has sent on each link, by its last report. Key: index of the link. */
  readonly sent: Map<number, number>;
  readonly questions: Map<number, PendingRequest>;
  /**
   * Time by which the worker must have joined: finite only for a worker that fell silent and comes
   * back with its memory. If it hangs, it never joins.
   */
  readonly joinsByMs: number;
}

/** A request to a worker's process that is not answered yet. */
interface PendingRequest {
  readonly deadline: NodeJS.Timeout;
  resolve(answer: FromNode & { kind: 'answer' }): void;
  reject(error: PodError): void;
}

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;
type Asked = Extract<ToNode, Request>;

/** Reason for a worker whose memory nobody needs any more. */
const isReplaced: Refusal = { code: 'generation', text: 'the worker is being replaced' };
/**
 * Longest time, in ms, from the return of a worker that fell silent until it has joined. Its program
 * is loaded, so a worker that does not hang needs only a moment.
 */
const backMsLimit = 3000;
/** Reason for a worker that keeps its memory and may join again. */
const fellSilent: Refusal = { code: 'timeout', text: 'the worker fell silent' };

/**
 * A pod of processes. The driver holds the state machine of the master. This class passes the
 * messages of the workers to the driver, and performs what the state machine decides.
 */
class Processes implements ProcessPod, Crew {
  readonly topology: Topology;
  /** Zero, because every worker has its own memory and the master holds none. */
  readonly memoryBytes = 0;
  readonly #options: ProcessPodOptions;
  readonly #programs: readonly Program[];
  readonly #torus: Torus;
  readonly #packed: Packed;
  /**
   * The process that has each Cloud TPU, indexed by the number of the Cloud TPU; undefined if no
   * process has it.
   */
  readonly #members: (Member | undefined)[];
  /** Cloud TPUs whose worker fell silent and may come back with its memory. */
  readonly #silent: Set<number> = new Set();
  /** Process ids (pids) of the workers that have joined and whose death has not been reported. */
  readonly #joined: Set<number> = new Set();
  /** Bytes sent on each link by workers that are gone. Key: index of the link. */
  readonly #carried: Map<number, number> = new Map();
  readonly #driver: Driver;
  readonly #openedMs: number = performance.now();
  #sampler: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  /** True once all workers have joined and have loaded their programs. */
  #isOpen = false;
  /** `id` of the last request. */
  #lastId = 0;

  constructor(options: ProcessPodOptions) {
    const { topology, programs, mxu, relaxed } = options;
    this.topology = topology;
    this.#options = options;
    this.#programs = programs;
    this.#torus = podTorus(topology);
    this.#packed = packAssignment({ topology, mxu, relaxed }, programs);
    this.#members = Array.from({ length: this.#torus.workers }, () => undefined);
    const { startMsLimit, graceMsLimit } = options;
    const times = { startMsLimit, quietMsLimit, graceMsLimit, samplePeriodMs };
    this.#driver = new Driver(options, masterOptions(options, times), this, () =>
      performance.now(),
    );
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

  /**
   * Closes the pod. If another master may continue the run, the workers keep their memory and look
   * for that master. Otherwise the workers give up their Cloud TPUs and wait in the lobby.
   */
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
      member?.guest.refuse({
        code: 'order',
        text: 'the worker did not leave its Cloud TPU in time',
      });
    }
  }

  /**
   * True if another master may continue the run and will need the parameters that these workers
   * hold.
   */
  #keepsWorkers(): boolean {
    const { failure } = this.#driver;
    const isLost = failure !== undefined && !isFinal(failure);
    return isLost || this.#options.keepsWorkers?.() === true;
  }

  // --------------------------------------------------------------------------------------- members

  /**
   * Gives free Cloud TPUs to the waiting processes, in two rounds. In the first round, each process
   * that asks for a certain free Cloud TPU gets this Cloud TPU. In the second round, each process
   * that still waits gets the first free Cloud TPU. The second round is left out while free Cloud
   * TPUs are reserved for their former workers.
   */
  #seatAll(): void {
    if (this.#driver.isOver) return;
    const byGeneration = (a: JoinedProcess, b: JoinedProcess): number =>
      b.hello.generation - a.hello.generation;
    // Each process states the generation of its last membership. Processes of newer generations are
    // served first, because they are more likely to have the current parameters.
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

  /**
   * True if Cloud TPU `tpu` is free for a waiting process: no worker has joined for `tpu`, and no
   * worker has been asked to emulate `tpu` in addition to its own Cloud TPU.
   */
  #isVacant(tpu: number): boolean {
    return isVacant(this.#driver.state, tpu);
  }

  /**
   * True while each free Cloud TPU is reserved for its former worker: if this master continues a
   * run, for the first `returnMs` ms after its start.
   */
  #awaitsReturns(): boolean {
    const isNew = performance.now() - this.#openedMs < returnMs;
    return isNew && this.#options.start?.mustKeepParameters === true;
  }

  /**
   * Gives Cloud TPU `tpu` to the given process, and sends the process the executables and the
   * assignment.
   */
  #seat(guest: JoinedProcess, tpu: number): void {
    const isBack = this.#silent.delete(tpu) && guest.hello.generation > 0;
    const member: Member = {
      ...{ tpu, guest, pid: null, hostname: null, offer: undefined },
      ...{ hasJoined: false, lastWords: undefined, progress: 0, heartbeats: 0 },
      joinsByMs: isBack ? performance.now() + backMsLimit : Number.POSITIVE_INFINITY,
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

  /** Takes the Cloud TPU away from the given process, which then waits in the lobby. */
  #unseat(member: Member, reason: string): void {
    member.guest.unseat();
    this.#forget(member, reason);
  }

  /**
   * Removes the given process from its Cloud TPU. Keeps the counts of the bytes that the process
   * has sent: they are added to `#carried`. Rejects the requests that the process has not answered.
   */
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
    // For a worker that had joined, `#closed` reports the loss when the worker's connection ends.
    // So nothing is left to do here.
    if (this.#joined.delete(pid)) return true;
    const member = this.#members[tpu];
    if (member === undefined ? !this.#isVacant(tpu) : member.pid !== pid) return false;
    if (member !== undefined) this.#unseat(member, cause);
    this.#options.log('worker-gone', { tpu, pid, cause });
    this.#driver.give({ kind: 'exited', tpu, reason: cause, code });
    this.#seatAll();
    return true;
  }

  /**
   * Handles the end of a worker's connection, and decides whether the worker counts as lost:
   *
   * - A worker that has joined counts as lost.
   * - A worker that has not joined does not count as lost if the master watches its process
   *   (`isWatched`), because `died` reports the death of that process.
   * - A worker that has not joined, and whose process the master does not watch, counts as lost in
   *   two cases: it has reported an error (`unable`), or the master did not end the connection
   *   itself.
   */
  #closed(member: Member, refusal: Refusal | undefined): void {
    const isItsEnd = refusal === undefined || refusal.code === 'peer';
    const { hasJoined, lastWords } = member;
    const isWatched = this.#options.isWatched === true;
    const isLost = hasJoined || (!isWatched && (lastWords !== undefined || isItsEnd));
    this.#gone(member, refusal?.text ?? 'the connection of the worker was closed', isLost);
  }

  /**
   * Takes the Cloud TPU away from a process that is gone. Then, if `isLost`, reports the loss to
   * the master's state machine. Finally gives the free Cloud TPU to a waiting process, if there is
   * one.
   */
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
        if (this.#driver.isOver) this.#unseat(member, 'the worker has left');
        else this.#gone(member, 'the worker left its Cloud TPU', member.hasJoined);
        return;
      case 'unable':
        member.lastWords = message;
        this.#tellUnable(member, message);
        return;
      case 'dismissed':
        // The lobby handles this message.
        return;
      default:
        unreachable(message);
    }
  }

  #tellUnable({ tpu, pid, hostname }: Member, { code, message }: Failure): void {
    this.#options.log('worker-unable', { tpu, pid, hostname, code, cause: message });
  }

  /**
   * Passes a worker's message to the state machine. Disconnects a worker whose message names a
   * Cloud TPU that is not its own.
   */
  #hear(member: Member, { message, sent }: FromNode & { kind: 'pod' }): void {
    const { tpu, guest, offer, pid, hostname } = member;
    if (message.tpu !== tpu) {
      guest.refuse({ code: 'message', text: 'the message names another Cloud TPU' });
      return;
    }
    if (message.kind === 'joined') {
      if (offer === undefined) {
        guest.refuse({ code: 'message', text: '`joined` arrived before `offer`' });
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

  /**
   * Cancels the start of the pod if `shouldStop` of the options returns true. Then gives free Cloud
   * TPUs to waiting processes. Then passes the current progress counters and heartbeat counts of
   * all Cloud TPUs to the failure detector.
   */
  #sample(): void {
    if (!this.#isOpen && this.#options.shouldStop?.()) {
      this.#driver.serviceFailed(
        'the start',
        new PodError('worker-silent', 'the start was cancelled'),
      );
    }
    this.#replaceHung();
    this.#seatAll();
    const progress = this.#members.map((it) => it?.progress ?? 0);
    const heartbeats = this.#members.map((it) => it?.heartbeats ?? 0);
    this.#driver.give({ kind: 'sample', progress, heartbeats });
  }

  /** Replaces each worker that came back after a silence and has not joined in time. */
  #replaceHung(): void {
    const now = performance.now();
    for (const member of this.#members) {
      if (member === undefined || member.hasJoined || member.joinsByMs > now) continue;
      this.#refuse(member, isReplaced);
    }
  }

  /** Takes the Cloud TPU away from a worker, and ends the connection with the given reason. */
  #refuse(member: Member, reason: Refusal): void {
    this.#forget(member, 'the worker is being replaced');
    member.guest.refuse(reason);
  }

  // ------------------------------------------------------------------------------------------ crew

  send(tpu: number, message: ToWorker): void {
    const guest = this.#members[tpu]?.guest;
    if (message.kind === 'load') {
      const offers = this.#members.map((it) => it?.offer ?? noOffer);
      guest?.send({ kind: 'membership', generation: message.generation, offers });
    }
    guest?.send({ kind: 'pod', message });
  }

  refused(message: FromWorker, reason: string): void {
    this.#options.log('refused', { tpu: message.tpu, kind: message.kind, cause: reason });
  }

  abort(): void {
    // Nothing to do: each worker ends its step when it receives the message `abort`.
  }

  replace(tpu: number, isSilent: boolean): void {
    const member = this.#members[tpu];
    if (isSilent) this.#silent.add(tpu);
    else this.#silent.delete(tpu);
    if (member !== undefined) this.#refuse(member, isSilent ? fellSilent : isReplaced);
    this.#seatAll();
  }

  adopt(tpu: number, host: number): void {
    // A worker that has the Cloud TPU but has not joined in time would keep the host out.
    const late = this.#members[tpu];
    if (late !== undefined) this.#refuse(late, isReplaced);
    this.#members[host]?.guest.send({ kind: 'host', tpu });
  }

  reset(): void {
    // Nothing to do: each process renews its links and feeds when it receives `membership` and
    // `load`.
  }

  release(): void {
    // Nothing to do: each process releases its own samples when the next step starts.
  }

  async restore(tpu: number, from: number, steps: readonly number[]): Promise<void> {
    for (const [program, { parametersFrom }] of this.#programs.entries()) {
      if (parametersFrom === undefined) await this.#take(tpu, from, program, at(steps, program));
    }
  }

  /**
   * Writes the saved parameters to all Cloud TPUs. The master sends them to each process itself:
   * the processes cannot pass them on to one another, because they have no links of the new
   * membership yet.
   */
  async rollBack(saved: readonly (SavedParameters | undefined)[]): Promise<void> {
    for (const [program, it] of saved.entries()) {
      if (it === undefined) continue;
      const { steps, values } = it;
      await Promise.all(this.#members.map((_, tpu) => this.#write(tpu, program, steps, values)));
    }
  }

  // ------------------------------------------------------------------------------------ parameters

  /**
   * Waits until the pod is ready, then runs `work`. If `work` fails and a Cloud TPU was lost while
   * `work` ran, waits for the recovery and runs `work` again.
   */
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

  /**
   * Sets a program's parameters on all Cloud TPUs: writes them to Cloud TPU 0, from which they are
   * copied along a tree to the other Cloud TPUs.
   */
  async #spread(program: number, steps: number, values: readonly Uint8Array[]): Promise<void> {
    const done: Promise<void>[] = [this.#write(0, program, steps, values)];
    for (let tpu = 1; tpu < this.#members.length; tpu++) {
      const parent = Math.floor((tpu - 1) / fanOut);
      done[tpu] = at(done, parent).then(() => this.#take(tpu, parent, program, steps));
    }
    await Promise.all(done);
  }

  /** Reads a program's parameters in pieces from the process of Cloud TPU `tpu`. */
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

  /**
   * Sends a program's parameters in pieces to the process of Cloud TPU `tpu`, then `set` with the
   * hash of all parameters.
   */
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
   * Makes the process of Cloud TPU `tpu` copy a program's parameters from the process of Cloud TPU
   * `peer`. If the copy fails, tries again for up to `answerMsLimit` ms, as long as the generation
   * stays the same. When one of the two processes is lost, a new generation begins, and further
   * attempts would be useless.
   */
  async #take(tpu: number, peer: number, program: number, steps: number): Promise<void> {
    const offer = this.#members[peer]?.offer ?? noOffer;
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

  /**
   * Sends a request to the process of Cloud TPU `tpu` and returns the bytes of the answer.
   * Disconnects the process if no answer arrives within `answerMsLimit`.
   */
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
        member.guest.refuse({ code: 'timeout', text: `no answer within ${answerMsLimit} ms` });
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

/** Placeholder for the address of a Cloud TPU if no process has reported an address for it. */
const noOffer: TensorOffer = { host: '', port: 0 };

function addAll(counts: Map<number, number>, more: ReadonlyMap<number, number>): void {
  for (const [link, bytes] of more) counts.set(link, (counts.get(link) ?? 0) + bytes);
}

/** Splits a length in bytes into ranges of at most `pieceBytesMax`. */
function pieces(bytes: number): { readonly offset: number; readonly length: number }[] {
  const count = Math.ceil(bytes / pieceBytesMax);
  return Array.from({ length: count }, (_, i) => {
    const offset = i * pieceBytesMax;
    return { offset, length: Math.min(pieceBytesMax, bytes - offset) };
  });
}

/** Copies the outfeed of a `step-done` message, because the decoder may reuse its buffer. */
function copied(message: FromWorker): FromWorker {
  if (message.kind !== 'step-done') return message;
  return { ...message, outfeed: message.outfeed.map((it) => Uint8Array.from(it)) };
}
