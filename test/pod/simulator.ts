import {
  initialMaster,
  isOver,
  type MasterAction,
  type MasterEvent,
  type MasterState,
  master,
  type Note,
  type RecoveryPolicy,
} from '../../src/pod/master.ts';
import type { FromWorker, StepOrder, ToWorker } from '../../src/pod/messages.ts';
import { initialWorker, type WorkerEvent, type WorkerState, worker } from '../../src/pod/worker.ts';

/** A slice in virtual time: a master, its workers, what carries their messages, and what befalls them. */
export interface Scenario {
  readonly seed: number;
  readonly tpus: number;
  readonly steps: number;
  readonly policy: RecoveryPolicy;
  /** Threads hear nothing while they run a step, and shared memory ends it; processes do. */
  readonly workers: 'threads' | 'processes';
  /** Chances, each a share of 1. */
  readonly chances: {
    /** Of a message. */
    readonly lost: number;
    readonly repeated: number;
    /** … to take long, and so to be overtaken. */
    readonly late: number;
    /** Of a worker in a step, or while it loads. */
    readonly crash: number;
    readonly hang: number;
    /** … of its weights, before a step or after it. */
    readonly corrupt: number;
    /** Of a replacement, never to come. */
    readonly absent: number;
    /** Of the connection of a process, to break: it comes back, and still has its weights. */
    readonly broken: number;
    /** Of the master, to end at a commit, or any time: another goes on with what it wrote down. */
    readonly masterLost: number;
  };
}

export interface Outcome {
  readonly state: MasterState;
  readonly commits: readonly { readonly step: number; readonly digest: string }[];
  readonly notes: readonly Note[];
  /** What must not happen and did. */
  readonly wrongs: readonly string[];
  readonly elapsedMs: number;
  /** What was injected. */
  readonly faults: number;
}

/** The weights after so many steps, and what they are: right when made by {@link weightsAfter}. */
interface Weights {
  readonly steps: number;
  readonly value: string;
}

/** A worker's life: from its start to its end, or to the end of the simulation. */
interface Life {
  readonly tpu: number;
  state: WorkerState;
  isAlive: boolean;
  isHung: boolean;
  /** Number of its connection: what was sent over an older one does not arrive. */
  connection: number;
  /** Two sets, by parity of steps. */
  readonly sets: [Weights, Weights];
  readonly inbox: ToWorker[];
  running: { readonly epoch: number; readonly order: StepOrder; hasArrived: boolean } | undefined;
  beats: number;
}

const nothing: Weights = { steps: -1, value: 'nothing' };

/** The digest of the weights after `steps` steps. */
export function weightsAfter(steps: number): string {
  let hash = 17;
  for (let step = 0; step < steps; step++) hash = (Math.imul(hash, 31) + step) >>> 0;
  return hash.toString(16).padStart(16, '0');
}

/** Runs a scenario to its end. The same scenario has the same outcome. */
export function simulate(scenario: Scenario): Outcome {
  return new Simulation(scenario).run();
}

const endMs = 3_600_000;
const sampleMs = 100;

class Simulation {
  readonly #scenario: Scenario;
  readonly #random: () => number;
  readonly #agenda: { readonly ms: number; readonly turn: number; readonly act: () => void }[] = [];
  readonly #lives: (Life | undefined)[];
  readonly #commits: { step: number; digest: string }[] = [];
  readonly #notes: Note[] = [];
  readonly #wrongs: string[] = [];
  #state: MasterState;
  #now = 0;
  #turn = 0;
  #faults = 0;
  readonly #isBroken: Set<Life> = new Set();
  #isAborted = false;
  #isStopping = false;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = randomFrom(scenario.seed);
    const names = Array.from({ length: scenario.tpus }, (_, tpu) => `Cloud TPU ${tpu}`);
    this.#lives = names.map(() => undefined);
    const limits = { startMsLimit: 5000, silenceMsLimit: 1200, silenceFactor: 4 };
    const recovery = {
      policy: scenario.policy,
      graceMsLimit: 3000,
      lossesPerStepMax: 5,
      lossesPerMinuteMax: 30,
    };
    const options = { names, taking: [false], sampleMsLimit: 2.5 * sampleMs, ...limits, recovery };
    this.#state = initialMaster(options, 0);
  }

  run(): Outcome {
    for (let tpu = 0; tpu < this.#scenario.tpus; tpu++) this.#begin(tpu);
    this.#sample();
    while (!isOver(this.#state) && this.#now < endMs) {
      const next = this.#takeNext();
      if (next === undefined) break;
      this.#now = next.ms;
      next.act();
    }
    const { phase } = this.#state;
    if (!isOver(this.#state)) this.#wrongs.push(`no end: ${phase.kind}`);
    return {
      state: this.#state,
      commits: this.#commits,
      notes: this.#notes,
      wrongs: this.#wrongs,
      elapsedMs: this.#now,
      faults: this.#faults,
    };
  }

  // ------------------------------------------------------------------------------------ the world

  #in(ms: number, act: () => void): void {
    this.#agenda.push({ ms: this.#now + ms, turn: this.#turn++, act });
  }

  #takeNext(): { readonly ms: number; readonly act: () => void } | undefined {
    let first = 0;
    for (let i = 1; i < this.#agenda.length; i++) {
      const [a, b] = [this.#agenda[first]!, this.#agenda[i]!];
      if (b.ms < a.ms || (b.ms === a.ms && b.turn < a.turn)) first = i;
    }
    const [next] = this.#agenda.splice(first, 1);
    return next;
  }

  #happens(chance: number): boolean {
    return this.#random() < chance;
  }

  /** Carries a message: late, twice or never, by chance. */
  #carry(act: () => void): void {
    const { lost, repeated, late } = this.#scenario.chances;
    if (this.#happens(lost)) {
      this.#faults++;
      return;
    }
    const delay = (): number => 1 + this.#random() * (this.#happens(late) ? 400 : 2);
    this.#in(delay(), act);
    if (this.#happens(repeated)) this.#in(delay(), act);
  }

  /** Does something with a life when it is awake. */
  #whenAwake(life: Life, ms: number, act: () => void): void {
    this.#in(ms, () => {
      if (!life.isAlive) return;
      if (life.isHung) this.#whenAwake(life, 500, act);
      else act();
    });
  }

  // ------------------------------------------------------------------------------------- workers

  #begin(tpu: number): void {
    const life: Life = {
      tpu,
      state: initialWorker(tpu, [false]),
      isAlive: true,
      isHung: false,
      connection: 0,
      sets: [nothing, nothing],
      inbox: [],
      running: undefined,
      beats: 0,
    };
    this.#lives[tpu] = life;
    this.#whenAwake(life, this.#random() * 50, () => this.#tell(life, { kind: 'started' }));
  }

  #isPresent(life: Life): boolean {
    return this.#lives[life.tpu] === life;
  }

  #tell(life: Life, event: WorkerEvent): void {
    life.beats++;
    const { state, actions } = worker(life.state, event);
    life.state = state;
    for (const action of actions) {
      switch (action.kind) {
        case 'send':
          this.#send(life, action.message);
          break;
        case 'load':
          this.#befall(life);
          this.#whenAwake(life, this.#random() * 100, () => {
            const digests = action.steps.map((count) => life.sets[count % 2]!.value);
            this.#tell(life, { kind: 'loaded', digests });
          });
          break;
        case 'run':
          this.#startRun(life, action.order);
          break;
        case 'interrupt':
          this.#whenAwake(life, this.#random() * 20, () => this.#interrupt(life));
          break;
        case 'end':
          life.isAlive = false;
          break;
      }
    }
  }

  #send(life: Life, message: FromWorker): void {
    const { connection } = life;
    this.#carry(() => {
      if (!this.#isPresent(life) || life.connection !== connection) return;
      this.#give({ kind: 'message', message });
    });
  }

  /** Its connection is gone; with the next one it tells what it has. */
  #reconnect(life: Life, ms: number): void {
    life.connection++;
    life.inbox.length = 0;
    this.#whenAwake(life, ms, () => this.#tell(life, { kind: 'started' }));
  }

  /** Whatever may befall a worker that works. */
  #befall(life: Life): void {
    const { crash, hang, broken } = this.#scenario.chances;
    if (this.#happens(broken)) {
      this.#faults++;
      this.#in(this.#random() * 60, () => {
        if (!this.#isPresent(life) || !life.isAlive) return;
        life.connection++;
        this.#isBroken.add(life);
        this.#give({ kind: 'exited', tpu: life.tpu, reason: 'no connection' });
      });
    }
    if (this.#happens(crash)) {
      this.#faults++;
      this.#in(this.#random() * 60, () => {
        life.isAlive = false;
        this.#in(this.#random() * 150, () => {
          if (this.#isPresent(life)) this.#give({ kind: 'exited', tpu: life.tpu, reason: 'crash' });
        });
      });
    }
    if (this.#happens(hang)) {
      this.#faults++;
      this.#in(this.#random() * 60, () => {
        life.isHung = true;
        this.#in(this.#random() * 20_000, () => {
          life.isHung = false;
        });
      });
    }
  }

  #startRun(life: Life, order: StepOrder): void {
    const { epoch } = life.state;
    for (const other of this.#isPresent(life) ? this.#lives : []) {
      const running = other?.running;
      if (running !== undefined && other?.isAlive && running.epoch !== epoch) {
        this.#wrongs.push(`${life.tpu} runs in ${epoch}, ${other.tpu} in ${running.epoch}`);
      }
    }
    this.#befall(life);
    const before = order.step % 2;
    if (this.#happens(this.#scenario.chances.corrupt)) {
      this.#faults++;
      life.sets[before] = { ...life.sets[before]!, value: `corrupt ${this.#turn}` };
    }
    life.sets[1 - before] = nothing;
    const run = { epoch, order, hasArrived: false };
    life.running = run;
    this.#whenAwake(life, this.#random() * 50, () => {
      run.hasArrived = true;
      this.#meet(run.epoch);
    });
  }

  /** The all-reduce of a step: who has arrived goes on once all have. */
  #meet(epoch: number): void {
    const there = this.#lives.filter(
      (life) => life?.isAlive && life.running?.epoch === epoch && life.running.hasArrived,
    ) as Life[];
    if (there.length < this.#scenario.tpus) return;
    const read = there.map(({ running, sets }) => sets[running!.order.step % 2]!);
    const gradient = read.every(({ value }) => value === read[0]!.value)
      ? ''
      : ` among ${read.map(({ value }) => value).join(', ')}`;
    for (const life of there) {
      const run = life.running;
      this.#whenAwake(life, this.#random() * 10, () => {
        if (life.running === run) this.#finishRun(life, gradient);
      });
    }
  }

  #finishRun(life: Life, gradient: string): void {
    const { step } = life.running!.order;
    const read = life.sets[step % 2]!;
    const isRight = gradient === '' && read.steps === step && read.value === weightsAfter(step);
    let value = isRight ? weightsAfter(step + 1) : `from ${read.value}${gradient}`;
    if (this.#happens(this.#scenario.chances.corrupt)) {
      this.#faults++;
      value = `corrupt ${this.#turn}`;
    }
    life.sets[(step + 1) % 2] = { steps: step + 1, value };
    life.running = undefined;
    this.#tell(life, { kind: 'ran', report: { digest: value, outfeed: [], phaseMs: [] } });
    this.#readInbox(life);
  }

  #interrupt(life: Life): void {
    if (life.running === undefined) return;
    life.running = undefined;
    this.#tell(life, { kind: 'interrupted' });
    this.#readInbox(life);
  }

  #receive(life: Life, message: ToWorker): void {
    if (life.running !== undefined && this.#scenario.workers === 'threads') {
      life.inbox.push(message);
    } else this.#tell(life, { kind: 'message', message });
  }

  #readInbox(life: Life): void {
    while (life.running === undefined) {
      const message = life.inbox.shift();
      if (message === undefined) return;
      this.#tell(life, { kind: 'message', message });
    }
  }

  // ------------------------------------------------------------------------------------ the master

  #sample(): void {
    const pulses = this.#lives.map((life) => {
      if (life?.isAlive && !life.isHung && life.running !== undefined) life.beats++;
      return life?.beats ?? 0;
    });
    this.#give({ kind: 'sample', pulses });
    const { masterLost } = this.#scenario.chances;
    if (this.#state.isEstablished && this.#happens(masterLost / 4)) this.#loseMaster();
    // Shared memory ends the steps of threads.
    if (this.#isAborted && this.#scenario.workers === 'threads') {
      for (const life of this.#lives) {
        if (life?.running) this.#whenAwake(life, 0, () => this.#isAborted && this.#interrupt(life));
      }
    }
    this.#in(sampleMs, () => this.#sample());
  }

  #give(event: MasterEvent): void {
    const { state, actions } = master(this.#state, event, this.#now);
    this.#state = state;
    for (const action of actions) this.#perform(action);
    if (this.#state.phase.kind !== 'ready' || this.#isStopping) return;
    const step = this.#commits.length;
    if (step < this.#scenario.steps) {
      this.#give({ kind: 'begin-step', order: { program: 0, step, takeParameters: false } });
    } else {
      this.#isStopping = true;
      this.#give({ kind: 'stop' });
    }
  }

  #perform(action: MasterAction): void {
    switch (action.kind) {
      case 'send': {
        const life = this.#lives[action.tpu];
        if (action.message.kind === 'start-step') this.#checkState(action.tpu, action.message.step);
        if (life === undefined) break;
        const { connection } = life;
        const arrive = (): void => {
          if (life.connection === connection) this.#receive(life, action.message);
        };
        this.#carry(() => this.#whenAwake(life, 0, arrive));
        break;
      }
      case 'ready':
        if (this.#commits.length > 0) break;
        this.#write(weightsAtStart);
        this.#give({ kind: 'written', program: 0, digest: weightsAtStart.value });
        break;
      case 'commit':
        this.#checkCommit(action.order.step);
        this.#commits.push({ step: action.order.step, digest: action.digest });
        if (this.#happens(this.#scenario.chances.masterLost)) this.#loseMaster();
        break;
      case 'abort':
        this.#isAborted = true;
        break;
      case 'replace':
      case 'adopt':
        this.#replace(action.tpu);
        break;
      case 'reset':
        for (const life of this.#lives) {
          if (life?.isAlive && life.running) this.#wrongs.push(`reset while ${life.tpu} runs`);
        }
        this.#isAborted = false;
        break;
      case 'rewind': {
        const { epoch } = action;
        const steps = Math.floor((this.#state.told[0]! / 3) | 0) * 3;
        this.#in(this.#random() * 100, () => {
          if (epoch !== this.#state.epoch) return;
          this.#write({ steps, value: weightsAfter(steps) });
          this.#give({ kind: 'rewound', epoch, steps: [steps] });
        });
        break;
      }
      case 'restore':
        this.#in(this.#random() * 100, () => this.#restore(action));
        break;
      case 'note':
        this.#notes.push(action.note);
        break;
      case 'repeated':
      case 'refused':
      case 'failed':
        break;
    }
  }

  /** Another master takes over from what is written down; everybody connects again. */
  #loseMaster(): void {
    // Threads end with their master.
    if (this.#scenario.workers === 'threads') return;
    this.#faults++;
    const { options, epoch, told: steps, digests } = this.#state;
    this.#state = initialMaster(options, this.#now, { epoch, steps, digests, isEstablished: true });
    for (const life of this.#lives) {
      if (life !== undefined) this.#reconnect(life, 1 + this.#random() * 300);
    }
  }

  /** Ends a life; the next begins a little later, or never. */
  #replace(tpu: number): void {
    const life = this.#lives[tpu];
    // A process that cannot be reached may live on: nobody hears it.
    if (life !== undefined && this.#isBroken.delete(life)) {
      this.#reconnect(life, this.#random() * 500);
      return;
    }
    if (life !== undefined && this.#scenario.workers === 'threads') life.isAlive = false;
    this.#lives[tpu] = undefined;
    if (this.#happens(this.#scenario.chances.absent)) {
      this.#faults++;
      return;
    }
    this.#in(this.#random() * 200, () => this.#begin(tpu));
  }

  #restore({ tpu, from, epoch }: MasterAction & { kind: 'restore' }): void {
    const life = this.#lives[tpu];
    const steps = this.#state.steps[0]!;
    const source = from === null ? undefined : this.#lives[from];
    if (epoch !== this.#state.epoch || life === undefined) return;
    if (source !== undefined) life.sets[steps % 2] = source.sets[steps % 2]!;
    this.#give({ kind: 'restored', tpu, epoch });
  }

  #write(weights: Weights): void {
    for (const life of this.#lives) {
      if (life !== undefined) life.sets[weights.steps % 2] = weights;
    }
  }

  /** The next step, and everybody has done it. */
  #checkCommit(step: number): void {
    if (step !== this.#commits.length) this.#wrongs.push(`step ${step} out of order`);
    for (const life of this.#lives) {
      const found = life?.sets[(step + 1) % 2];
      if (!life?.isAlive || found?.steps === step + 1) continue;
      this.#wrongs.push(`step ${step} is committed, and ${life.tpu} has ${found?.value}`);
    }
  }

  /** Whoever is to run a step has the weights for it. */
  #checkState(tpu: number, step: number): void {
    const life = this.#lives[tpu];
    const found = life?.sets[step % 2];
    const isRight = found?.value === weightsAfter(step) || found?.value.startsWith('corrupt');
    if (!isRight || found?.steps !== step) {
      this.#wrongs.push(`${tpu} is to run step ${step} with ${JSON.stringify(found)}`);
    }
  }
}

const weightsAtStart: Weights = { steps: 0, value: weightsAfter(0) };

/** Numbers in [0, 1): xorshift. */
function randomFrom(seed: number): () => number {
  let state = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
