import { LogContents, type LogRecord } from '../../cluster/master/log-record.ts';
import type { StepCommitted } from '../../src/experiment/event.ts';
import { wordsOfProgram } from '../../src/experiment/program-index.ts';
import type { MasterAction, Note } from '../../src/pod/master/action.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import { isOver, isVacant, master } from '../../src/pod/master/master.ts';
import type { MasterOptions, RecoveryPolicy } from '../../src/pod/master/options.ts';
import { initialMaster, type MasterState } from '../../src/pod/master/state.ts';
import type { FromWorker, StepOrder, ToWorker } from '../../src/pod/messages.ts';
import {
  hasParametersAfter,
  initialWorker,
  type WorkerEvent,
  type WorkerState,
  worker,
} from '../../src/pod/worker.ts';

/**
 * Input of the simulator, which runs a slice in virtual time. The simulator has masters, their
 * commit log, workers, and messages. One master follows another; sometimes there are two at a time.
 * The simulator injects random faults into masters, workers and messages. Program 0 trains. Program
 * 1 evaluates after the training, with the parameters of program 0.
 */
export interface Scenario {
  readonly seed: number;
  readonly tpus: number;
  readonly steps: number;
  readonly policy: RecoveryPolicy;
  /**
   * Kind of the workers. A process reads messages during a step. A thread does not, so only a flag
   * in shared memory can interrupt its step.
   */
  readonly workers: 'threads' | 'processes';
  /**
   * Time, in ms, for a replacement to join. After this time another worker adopts the Cloud TPU.
   */
  readonly graceMsLimit: number;
  readonly chances: Chances;
}

/** Probabilities of faults, each from 0 to 1. */
export interface Chances {
  /** Probability that a message is lost. */
  readonly lost: number;
  /** Probability that a message arrives twice. */
  readonly repeated: number;
  /** Probability that a message takes up to 400 ms. Later messages can then overtake it. */
  readonly late: number;
  /**
   * Probability that a worker crashes in a step or while it loads. If the worker hosts adopted
   * Cloud TPUs, these are lost too.
   */
  readonly crash: number;
  /** Probability that a worker hangs for up to 20 s in a step or while it loads. */
  readonly hang: number;
  /** Probability that the weights of a worker are corrupted before or after a step. */
  readonly corrupt: number;
  /**
   * Probability that a worker dies before it joins. The program that has started the worker tells
   * the master that the worker has died.
   */
  readonly stillborn: number;
  /** Probability that a replacement for a lost worker never starts. */
  readonly absent: number;
  /** Probability that a replacement takes up to 8 s to start. */
  readonly tardy: number;
  /**
   * Probability that a process loses its connection to the master. The process then connects again,
   * and still has its weights.
   */
  readonly broken: number;
  /** Probability that a master ends between two of its actions. */
  readonly masterLost: number;
  /** Probability that a master pauses for up to 5 s between two of its actions. */
  readonly masterPaused: number;
  /**
   * When a process looks for a master, it normally tries the newest master. `stray` is the
   * probability that it tries a random master instead, which may be an older one.
   */
  readonly stray: number;
}

export interface Outcome {
  /** Final state of the last master. */
  readonly state: MasterState;
  /** Commits in the log, in order. */
  readonly commits: readonly { readonly step: number; readonly digest: string }[];
  readonly notes: readonly Note[];
  /** One text for each violation of an invariant. */
  readonly wrongs: readonly string[];
  /** Virtual time of the run, in ms. */
  readonly elapsedMs: number;
  /** Number of injected faults. */
  readonly faults: number;
  /** Number of masters that the run had in all. */
  readonly masters: number;
  /**
   * Number of masters that ended because they learned of a newer master. `byLog` counts those that
   * read of the newer master in the log. `byWorker` counts those that heard of it from a worker.
   */
  readonly superseded: { readonly byLog: number; readonly byWorker: number };
  /**
   * Number of workers that became spares. A worker becomes a spare if it looks for a master and
   * another worker already has its Cloud TPU.
   */
  readonly spares: number;
}

/**
 * Weights of a worker after `steps` training steps. They are right if `value` is the digest that
 * {@link weightsAfter} returns for `steps`.
 */
interface Weights {
  readonly steps: number;
  readonly value: string;
}

/** A worker of one Cloud TPU, from its start to its end. A restarted worker is another Life. */
interface Life {
  readonly tpu: number;
  /**
   * The worker of an adopted Cloud TPU runs in the process of another worker. `host` is this other
   * worker. Undefined for a worker with its own process or thread.
   */
  readonly host: Life | undefined;
  state: WorkerState;
  isAlive: boolean;
  isHung: boolean;
  /** The master to which the worker is connected. Undefined if it has no connection. */
  boss: Boss | undefined;
  /** Number of the worker's current connection. Messages from earlier connections do not arrive. */
  connection: number;
  /**
   * Two sets of weights. Set 0 has weights after an even number of steps, set 1 after an odd
   * number. So a step reads one set and writes the other.
   */
  readonly sets: [Weights, Weights];
  readonly inbox: ToWorker[];
  running:
    | { readonly generation: number; readonly order: StepOrder; hasArrived: boolean }
    | undefined;
  progress: number;
  heartbeats: number;
  isSpare: boolean;
}

/** A master, from its start to its end. */
interface Boss {
  readonly name: string;
  state: MasterState;
  /**
   * For each Cloud TPU, by number: the worker to which this master has given the Cloud TPU.
   * Undefined if it has given the Cloud TPU to no worker.
   */
  readonly lives: (Life | undefined)[];
  /** Actions that the master has still to perform, in order. */
  readonly queue: (() => void)[];
  isBusy: boolean;
  isPaused: boolean;
  isEnded: boolean;
  isStopping: boolean;
  /**
   * True if this master must still write the initial weights to all workers. A master must do this
   * if the log had no commit when the master started.
   */
  mustWrite: boolean;
  /**
   * Number of committed steps at the last rollback of this master; 0 if there was none. The slice
   * rolls back because all copies of the newest weights are lost. So committed steps below this
   * number may run again.
   */
  repeatsTo: number;
}

const nothing: Weights = { steps: -1, value: 'nothing' };

/** Returns the right digest of the weights after `steps` training steps. */
export function weightsAfter(steps: number): string {
  let hash = 17;
  for (let step = 0; step < steps; step++) hash = (Math.imul(hash, 31) + step) >>> 0;
  return hash.toString(16).padStart(16, '0');
}

/** Simulates a scenario to its end. Equal scenarios have equal outcomes. */
export function simulate(scenario: Scenario): Outcome {
  return new Simulation(scenario).run();
}

const endMs = 3_600_000;
const sampleMs = 100;
const copiesParameters: readonly boolean[] = [false, true];
const evaluationSteps = 2;

class Simulation {
  readonly #scenario: Scenario;
  readonly #options: MasterOptions;
  readonly #random: () => number;
  /** Future actions, latest first. So the next action is the last element. */
  readonly #agenda: { readonly ms: number; readonly act: () => void }[] = [];
  /**
   * The worker that was started for each Cloud TPU, by the number of the Cloud TPU; undefined while
   * there is none. If another worker has adopted the Cloud TPU, this worker may wait as a spare.
   */
  readonly #lives: (Life | undefined)[];
  readonly #log: LogContents = new LogContents();
  readonly #bosses: Boss[] = [];
  readonly #notes: Note[] = [];
  readonly #wrongs: string[] = [];
  readonly #superseded = { byLog: 0, byWorker: 0 };
  readonly #started: Set<string> = new Set();
  #now = 0;
  #corrupted = 0;
  #faults = 0;
  #spares = 0;
  #isAborted = false;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = randomFrom(scenario.seed);
    const names = Array.from({ length: scenario.tpus }, (_, tpu) => `Cloud TPU ${tpu}`);
    this.#lives = names.map(() => undefined);
    const limits = {
      ...{ startMsLimit: 5000, quietMsLimit: 2000, silenceMsLimit: 1200, silenceFactor: 4 },
    };
    const { policy, graceMsLimit } = scenario;
    const recovery = { policy, graceMsLimit, lossesPerStepMax: 5, lossesPerMinuteMax: 30 };
    const programs = copiesParameters.map((_, program) => wordsOfProgram(program));
    const sampleMsLimit = 2.5 * sampleMs;
    this.#options = { names, copiesParameters, programs, sampleMsLimit, ...limits, recovery };
  }

  run(): Outcome {
    this.#startBoss();
    for (let tpu = 0; tpu < this.#scenario.tpus; tpu++) this.#begin(tpu);
    while (!this.#isOver() && this.#now < endMs) {
      const next = this.#agenda.pop();
      if (next === undefined) break;
      this.#now = next.ms;
      next.act();
    }
    const { state } = this.#leader();
    if (!this.#isOver()) this.#wrongs.push(`no end: ${state.phase.kind}`);
    return {
      state,
      commits: this.#log.history.map(({ step, digest }) => ({ step: step - 1, digest })),
      notes: this.#notes,
      wrongs: this.#wrongs,
      elapsedMs: this.#now,
      faults: this.#faults,
      masters: this.#bosses.length,
      superseded: this.#superseded,
      spares: this.#spares,
    };
  }

  /** True if the run is over and all its masters have ended. */
  #isOver(): boolean {
    return this.#bosses.every((boss) => boss.isEnded) && isOver(this.#leader().state);
  }

  #leader(): Boss {
    return this.#bosses.at(-1)!;
  }

  // ------------------------------------------------------------------------------------ the world

  #in(ms: number, act: () => void): void {
    const dueMs = this.#now + ms;
    // Actions that are due at the same time run in the order of their insertion.
    let [from, to] = [0, this.#agenda.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#agenda[middle]!.ms > dueMs) from = middle + 1;
      else to = middle;
    }
    this.#agenda.splice(from, 0, { ms: dueMs, act });
  }

  #happens(chance: number): boolean {
    return this.#random() < chance;
  }

  /** Delivers a message, which by chance arrives late, twice or never. */
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

  /**
   * Runs `act` after `ms` ms. If the worker hangs at that time, waits until the worker no longer
   * hangs. If the worker is dead, does not run `act`.
   */
  #whenAwake(life: Life, ms: number, act: () => void): void {
    this.#in(ms, () => {
      if (!isAlive(life)) return;
      if (isHung(life)) this.#whenAwake(life, 500, act);
      else act();
    });
  }

  // ------------------------------------------------------------------------------------- workers

  /** Starts a Cloud TPU's own process or thread. */
  #begin(tpu: number): void {
    const life = newLife(tpu);
    this.#lives[tpu] = life;
    const { stillborn } = this.#scenario.chances;
    // Some tests have seeds from the time before the fault `stillborn` existed. In these tests its
    // probability is 0. No random number may be drawn here then, so that the runs stay the same.
    if (stillborn > 0 && this.#happens(stillborn)) {
      this.#faults++;
      this.#in(this.#random() * 100, () => this.#dieBeforeJoining(life));
    } else this.#connect(life, this.#random() * 50);
  }

  /**
   * Lets a worker die before it joins, and tells the leading master, which may then replace the
   * worker. Restarts the worker itself in two cases: if the leading master has ended or pauses, or
   * if the worker's Cloud TPU is no longer vacant when the master learns of the death.
   */
  #dieBeforeJoining(life: Life): void {
    const { tpu } = life;
    life.isAlive = false;
    const boss = this.#leader();
    if (boss.isEnded || boss.isPaused) {
      if (this.#lives[tpu] === life) this.#restart(tpu);
      return;
    }
    this.#do(boss, () => {
      if (this.#lives[tpu] !== life) return;
      if (!isVacant(boss.state, tpu)) this.#restart(tpu);
      else {
        const reason = 'it died before it joined';
        this.#take(boss, { kind: 'exited', tpu, reason, code: 'out-of-memory' });
      }
    });
  }

  /**
   * True if the worker still belongs to its Cloud TPU. A worker with its own process or thread
   * belongs to its Cloud TPU until another process or thread replaces it. The worker of an adopted
   * Cloud TPU belongs to it while it is connected to the master that gave it the Cloud TPU.
   */
  #isPresent(life: Life): boolean {
    if (life.host !== undefined) return life.boss?.lives[life.tpu] === life;
    return this.#lives[life.tpu] === life;
  }

  /** Lets a worker look for a master again and again, until a master gives it its Cloud TPU. */
  #connect(life: Life, ms: number): void {
    this.#whenAwake(life, ms, () => {
      if (!this.#isPresent(life) || life.boss !== undefined) return;
      const boss = this.#find();
      if (boss === undefined) {
        this.#connect(life, 1 + this.#random() * 300);
        return;
      }
      if (boss.lives[life.tpu] !== undefined || !isVacant(boss.state, life.tpu)) {
        if (!life.isSpare) this.#spares++;
        life.isSpare = true;
        this.#connect(life, 1 + this.#random() * 300);
        return;
      }
      this.#seat(boss, life);
    });
  }

  #find(): Boss | undefined {
    const found = this.#happens(this.#scenario.chances.stray)
      ? this.#bosses[Math.floor(this.#random() * this.#bosses.length)]
      : this.#leader();
    return found?.isEnded || found?.isPaused ? undefined : found;
  }

  #seat(boss: Boss, life: Life): void {
    boss.lives[life.tpu] = life;
    life.boss = boss;
    life.connection++;
    life.inbox.length = 0;
    this.#tell(life, { kind: 'started' });
  }

  /**
   * Breaks the connection of a worker. The worker notices this at once. If it has its own process,
   * it then connects again. The master notices after the actions in its queue.
   */
  #disconnect(life: Life): void {
    const { boss } = life;
    life.boss = undefined;
    life.connection++;
    if (boss === undefined) return;
    // A worker that loses its connection also loses the adopted Cloud TPUs that it hosts for this
    // master.
    for (const guest of boss.lives) {
      if (guest?.host !== life) continue;
      guest.isAlive = false;
      guest.connection++;
    }
    this.#in(0, () => this.#giveExited(boss, life, 'no connection'));
    if (life.host === undefined) this.#connect(life, 1 + this.#random() * 500);
  }

  /**
   * Tells a master that a worker has exited. Does nothing if the master has given the Cloud TPU to
   * another worker in the meantime.
   */
  #giveExited(boss: Boss, life: Life, reason: string): void {
    const event: MasterEvent = { kind: 'exited', tpu: life.tpu, reason };
    this.#do(boss, () => {
      if (boss.lives[life.tpu] !== life) return;
      boss.lives[life.tpu] = undefined;
      this.#take(boss, event);
    });
  }

  #tell(life: Life, event: WorkerEvent): void {
    life.progress++;
    const { state, actions } = worker(life.state, event);
    const isOlder = event.kind === 'message' && event.message.generation < life.state.generation;
    if (isOlder && actions.length > 0) {
      this.#wrongs.push(
        `${life.tpu} in ${life.state.generation} obeys ${JSON.stringify(event.message)}`,
      );
    }
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
    const { connection, boss } = life;
    this.#carry(() => {
      if (boss === undefined || life.connection !== connection) return;
      if (boss.lives[life.tpu] === life) this.#give(boss, { kind: 'message', message });
    });
  }

  /**
   * By chance, lets a worker lose its connection, crash, or hang. Each of these happens within 60
   * ms, and more than one can happen to the same worker.
   */
  #befall(life: Life): void {
    const { crash, hang, broken } = this.#scenario.chances;
    if (this.#happens(broken)) {
      this.#faults++;
      this.#in(this.#random() * 60, () => {
        if (isAlive(life) && life.host === undefined) this.#disconnect(life);
      });
    }
    if (this.#happens(crash)) {
      this.#faults++;
      this.#in(this.#random() * 60, () => this.#crash(life));
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

  #crash(life: Life): void {
    if (!life.isAlive) return;
    life.isAlive = false;
    this.#in(this.#random() * 150, () => {
      const { boss } = life;
      const isNoticed = boss?.lives[life.tpu] === life && !boss.isEnded && !boss.isPaused;
      if (isNoticed) this.#giveExited(boss, life, 'crash');
      else if (this.#lives[life.tpu] === life) this.#restart(life.tpu);
    });
  }

  /** Starts a new process for a Cloud TPU: by chance soon, late or never. */
  #restart(tpu: number): void {
    this.#lives[tpu] = undefined;
    const { absent, tardy } = this.#scenario.chances;
    if (this.#happens(absent)) {
      this.#faults++;
      return;
    }
    const isTardy = this.#happens(tardy);
    if (isTardy) this.#faults++;
    this.#in(this.#random() * (isTardy ? 8000 : 200), () => {
      if (this.#lives[tpu] === undefined) this.#begin(tpu);
    });
  }

  #startRun(life: Life, order: StepOrder): void {
    const { generation } = life.state;
    for (const other of life.boss?.lives ?? []) {
      const running = other && isAlive(other) ? other.running : undefined;
      if (running !== undefined && running.generation !== generation) {
        this.#wrongs.push(
          `${life.tpu} runs in ${generation}, ${other?.tpu} in ${running.generation}`,
        );
      }
    }
    this.#befall(life);
    if (order.program === 0) this.#spoil(life, order.step);
    const run = { generation, order, hasArrived: false };
    life.running = run;
    this.#whenAwake(life, this.#random() * 50, () => {
      run.hasArrived = true;
      this.#meet(run.generation);
    });
  }

  /**
   * Begins a step in a worker. The set of weights that the step writes becomes invalid. By chance,
   * the set that the step reads is corrupted.
   */
  #spoil(life: Life, step: number): void {
    const before = step % 2;
    if (this.#happens(this.#scenario.chances.corrupt)) {
      this.#faults++;
      life.sets[before] = { ...life.sets[before]!, value: `corrupt ${this.#corrupted++}` };
    }
    life.sets[1 - before] = nothing;
  }

  /**
   * Models the all-reduce of a step: once the workers of all Cloud TPUs have reached the all-reduce
   * in the same generation, all of them finish the step.
   */
  #meet(generation: number): void {
    const guests = this.#bosses.flatMap(({ lives }) => lives.filter((life) => life?.host));
    const there = [...this.#lives, ...guests].filter(
      (life) =>
        life && isAlive(life) && life.running?.generation === generation && life.running.hasArrived,
    ) as Life[];
    if (there.length < this.#scenario.tpus) return;
    const read = there.map((life) => life.sets[stepsOf(life) % 2]!);
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
    const { program, step } = life.running!.order;
    const steps = stepsOf(life);
    const read = life.sets[steps % 2]!;
    let digest = read.value;
    if (program === 0) {
      const isRight = gradient === '' && read.steps === step && read.value === weightsAfter(step);
      digest = isRight ? weightsAfter(step + 1) : `from ${read.value}${gradient}`;
      if (this.#happens(this.#scenario.chances.corrupt)) {
        this.#faults++;
        digest = `corrupt ${this.#corrupted++}`;
      }
      life.sets[(step + 1) % 2] = { steps: step + 1, value: digest };
    }
    life.running = undefined;
    this.#tell(life, { kind: 'ran', report: { digest, outfeed: [], phaseMs: [], linkWaitMs: [] } });
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

  // ----------------------------------------------------------------------------------- the masters

  /** Starts a master, which leads from now on and continues where the log ends. */
  #startBoss(): void {
    const name = `master ${this.#bosses.length}`;
    const { generation, steps, history } = this.#log;
    this.#log.take({ master: generation + 1, name });
    const mustKeepParameters = history.length > 0;
    const digests = [history.at(-1)?.digest ?? null, null];
    const start = { generation, steps: [steps, 0], digests, mustKeepParameters };
    const boss: Boss = {
      name,
      state: initialMaster(this.#options, this.#now, start),
      lives: this.#lives.map(() => undefined),
      queue: [],
      ...{ isBusy: false, isPaused: false, isEnded: false, isStopping: false },
      mustWrite: !mustKeepParameters,
      repeatsTo: 0,
    };
    this.#bosses.push(boss);
    this.#sample(boss);
  }

  /** By chance, ends or pauses a master. Called between any two actions of the master. */
  #mayLose(boss: Boss): void {
    const { masterLost, masterPaused } = this.#scenario.chances;
    // Threads run in the master's process, so they could not outlive their master.
    if (this.#scenario.workers === 'threads' || boss.isEnded || boss.isPaused) return;
    const isLost = this.#happens(masterLost);
    if (!isLost && !this.#happens(masterPaused)) return;
    this.#faults++;
    if (isLost) this.#endBoss(boss);
    else this.#pause(boss);
    if (boss === this.#leader()) this.#in(this.#random() * 2000, () => this.#startNext(boss));
  }

  /**
   * Starts a new master in place of `boss`, which has ended or paused. Does nothing if another
   * master already leads or the run is over. If the pause of `boss` is already over, starts a new
   * master in half of the cases.
   */
  #startNext(boss: Boss): void {
    if (boss !== this.#leader() || this.#isOver()) return;
    if (boss.isEnded || boss.isPaused || this.#happens(0.5)) this.#startBoss();
  }

  #pause(boss: Boss): void {
    boss.isPaused = true;
    this.#in(this.#random() * 5000, () => {
      boss.isPaused = false;
      this.#drain(boss);
    });
    for (const life of boss.lives) {
      if (life === undefined || life.host !== undefined) continue;
      this.#whenAwake(life, this.#random() * 3000, () => {
        if (boss.isPaused && life.boss === boss) this.#disconnect(life);
      });
    }
  }

  /** Ends a master and breaks all its connections. */
  #endBoss(boss: Boss): void {
    boss.isEnded = true;
    boss.queue.length = 0;
    for (const life of boss.lives) {
      if (life !== undefined && life.boss === boss && isAlive(life)) this.#disconnect(life);
    }
  }

  /**
   * Ends a master that has learned of a newer master. The master that leads must never be
   * superseded.
   */
  #supersede(boss: Boss, by: 'byLog' | 'byWorker'): void {
    if (boss === this.#leader()) this.#wrongs.push(`${boss.name} leads, and was superseded ${by}`);
    this.#superseded[by]++;
    this.#endBoss(boss);
  }

  /**
   * Lets a master append a record to the log. Returns true if the master may go on. Returns false
   * if the master has ended, or if it has found in the log that a newer master leads.
   */
  #append(boss: Boss, record: LogRecord): boolean {
    this.#mayLose(boss);
    if (boss.isEnded) return false;
    if (this.#log.leader.name !== boss.name) {
      this.#supersede(boss, 'byLog');
      return false;
    }
    this.#log.take(record);
    this.#mayLose(boss);
    return !boss.isEnded;
  }

  #sample(boss: Boss): void {
    if (boss.isEnded) return;
    const progress = boss.lives.map((life) => {
      if (life && isAlive(life) && !isHung(life) && life.running !== undefined) life.progress++;
      return life?.progress ?? 0;
    });
    const heartbeats = boss.lives.map((life) => {
      if (life && isAlive(life) && !isHung(life)) life.heartbeats++;
      return life?.heartbeats ?? 0;
    });
    const heard = this.#scenario.workers === 'processes' ? { heartbeats } : {};
    if (!boss.isPaused) this.#give(boss, { kind: 'sample', progress, ...heard });
    // Threads read no messages during a step. The abort flag interrupts their steps instead.
    if (this.#isAborted && this.#scenario.workers === 'threads') {
      for (const life of this.#lives) {
        if (life?.running) this.#whenAwake(life, 0, () => this.#isAborted && this.#interrupt(life));
      }
    }
    this.#in(sampleMs, () => this.#sample(boss));
  }

  #give(boss: Boss, event: MasterEvent): void {
    this.#do(boss, () => this.#take(boss, event));
  }

  #do(boss: Boss, act: () => void): void {
    if (boss.isEnded) return;
    boss.queue.push(act);
    this.#drain(boss);
  }

  /**
   * Performs the queued actions of a master in order, while the master is neither paused nor ended.
   */
  #drain(boss: Boss): void {
    if (boss.isBusy) return;
    boss.isBusy = true;
    while (!boss.isPaused && !boss.isEnded) {
      const act = boss.queue.shift();
      if (act === undefined) break;
      act();
      this.#mayLose(boss);
    }
    boss.isBusy = false;
  }

  #take(boss: Boss, event: MasterEvent): void {
    if (isOver(boss.state)) return;
    const { state, actions } = master(boss.state, event, this.#now);
    const { generation } = state;
    // A new generation must be in the log before any worker learns of it.
    if (generation !== boss.state.generation && !this.#append(boss, { generation })) return;
    boss.state = state;
    const acts = actions.map((action) => () => this.#perform(boss, action));
    boss.queue.unshift(...acts, () => this.#goOn(boss));
  }

  #goOn(boss: Boss): void {
    if (boss.state.phase.kind !== 'ready' || boss.isStopping) return;
    const [trained = 0, evaluated = 0] = boss.state.committed;
    if (trained < this.#scenario.steps) this.#beginStep(boss, 0, trained);
    else if (evaluated < evaluationSteps) this.#beginStep(boss, 1, evaluated);
    else {
      boss.isStopping = true;
      this.#take(boss, { kind: 'stop' });
      boss.queue.push(() => this.#endBoss(boss));
    }
  }

  #beginStep(boss: Boss, program: number, step: number): void {
    const order = { program, step, takeParameters: program === 1 };
    this.#take(boss, { kind: 'begin-step', order });
  }

  #perform(boss: Boss, action: MasterAction): void {
    switch (action.kind) {
      case 'send':
        this.#order(boss, action);
        break;
      case 'ready':
        if (!boss.mustWrite) break;
        boss.mustWrite = false;
        this.#write(boss, weightsAtStart);
        this.#take(boss, { kind: 'written', program: 0, digest: weightsAtStart.value });
        break;
      case 'commit': {
        const { program, step } = action.order;
        if (program !== 0) break;
        this.#checkCommit(boss, step);
        const commit = { kind: 'step', step: step + 1, digest: action.digest } as StepCommitted;
        this.#append(boss, { commit, generation: boss.state.generation });
        break;
      }
      case 'abort':
        this.#isAborted = true;
        break;
      case 'replace':
        this.#replace(boss, action.tpu);
        break;
      case 'adopt':
        this.#adopt(boss, action.tpu, action.host);
        break;
      case 'reset':
        for (const life of boss.lives) {
          if (life && isAlive(life) && life.boss === boss && life.running) {
            this.#wrongs.push(`reset while ${life.tpu} runs`);
          }
        }
        this.#isAborted = false;
        break;
      case 'rollback':
        this.#checkRollback(boss);
        this.#in(this.#random() * 100, () =>
          this.#do(boss, () => this.#rollBack(boss, action.generation)),
        );
        break;
      case 'restore':
        this.#in(this.#random() * 100, () => this.#do(boss, () => this.#restore(boss, action)));
        break;
      case 'note':
        this.#notes.push(action.note);
        break;
      case 'failed':
        this.#fail(boss, action);
        break;
      case 'repeated':
      case 'refused':
        break;
    }
  }

  #order(boss: Boss, { tpu, message }: MasterAction & { kind: 'send' }): void {
    const life = boss.lives[tpu];
    if (message.kind === 'start-step') this.#checkOrder(boss, life, message);
    if (life === undefined || life.boss !== boss) return;
    const { connection } = life;
    const arrive = (): void => {
      if (life.connection === connection) this.#receive(life, message);
    };
    this.#carry(() => this.#whenAwake(life, 0, arrive));
  }

  /**
   * Ends a failed master and writes the failure to the log. A master that failed because it was
   * superseded does not write to the log.
   */
  #fail(boss: Boss, { code, message }: MasterAction & { kind: 'failed' }): void {
    if (code === 'superseded') this.#supersede(boss, 'byWorker');
    else if (this.#append(boss, { failed: code, message, generation: boss.state.generation })) {
      this.#endBoss(boss);
    }
  }

  /**
   * Replaces the worker of a lost Cloud TPU by a new worker. Starts no new worker if the Cloud TPU
   * has a process that lives and is not connected to this master. This process will connect by
   * itself.
   */
  #replace(boss: Boss, tpu: number): void {
    const life = boss.lives[tpu];
    boss.lives[tpu] = undefined;
    if (life?.host !== undefined) {
      life.isAlive = false;
      life.boss = undefined;
    }
    const own = this.#lives[tpu];
    // The Cloud TPU's own process lives. It has lost its connection or waits as a spare, so it will
    // connect by itself.
    if (own?.isAlive && own !== life) return;
    // The old process ends here, unless it hangs. A hung process only loses its connection, and may
    // wake up later beside its replacement.
    if (own !== undefined && !isHung(own)) own.isAlive = false;
    if (own !== undefined) own.boss = undefined;
    this.#restart(tpu);
  }

  #adopt(boss: Boss, tpu: number, host: number): void {
    const before = boss.lives[tpu];
    if (before !== undefined) this.#disconnect(before);
    boss.lives[tpu] = undefined;
    if (this.#scenario.workers === 'threads') {
      const life = this.#lives[tpu];
      if (life !== undefined) life.isAlive = false;
      this.#begin(tpu);
      return;
    }
    const process = boss.lives[host];
    if (process === undefined || process.boss !== boss) return;
    // An adoption may be slow: it may take longer than the time that a replacement has to join.
    this.#whenAwake(process, this.#random() * 3000, () => {
      if (process.boss === boss && boss.lives[tpu] === undefined && !boss.isEnded) {
        this.#seat(boss, newLife(tpu, process));
      }
    });
  }

  #rollBack(boss: Boss, generation: number): void {
    if (generation !== boss.state.generation) return;
    const steps = Math.floor(boss.state.committed[0]! / 3) * 3;
    this.#write(boss, { steps, value: weightsAfter(steps) });
    boss.repeatsTo = boss.state.committed[0]!;
    this.#take(boss, { kind: 'rolled-back', generation, steps: [steps, boss.state.steps[1]!] });
  }

  #restore(boss: Boss, { tpu, from, generation }: MasterAction & { kind: 'restore' }): void {
    const life = boss.lives[tpu];
    if (generation !== boss.state.generation || life === undefined || life.boss !== boss) return;
    if (!isAlive(life) || isHung(life)) return;
    if (from !== null) {
      const source = boss.lives[from];
      if (source?.boss !== boss || !isAlive(source) || isHung(source)) return;
      const steps = boss.state.steps[0]!;
      life.sets[steps % 2] = source.sets[steps % 2]!;
    }
    this.#take(boss, { kind: 'restored', tpu, generation });
  }

  /** Writes weights to all workers that are connected to a master. */
  #write(boss: Boss, weights: Weights): void {
    for (const life of boss.lives) {
      if (life?.boss === boss && isAlive(life)) life.sets[weights.steps % 2] = weights;
    }
  }

  // ----------------------------------------------------------------------------------- the checks

  /**
   * Checks a commit of the leading master. The step must follow the last step in the log. Each
   * worker that is connected to the master must have weights after this step.
   */
  #checkCommit(boss: Boss, step: number): void {
    if (this.#log.leader.name !== boss.name) return;
    if (step !== this.#log.steps) this.#wrongs.push(`step ${step} out of order`);
    for (const life of boss.lives) {
      const found = life?.sets[(step + 1) % 2];
      if (!life || !isAlive(life) || life.boss !== boss || found?.steps === step + 1) continue;
      this.#wrongs.push(`step ${step} is committed, and ${life.tpu} has ${found?.value}`);
    }
  }

  /**
   * Checks an order of the leading master to run a step. The worker must have weights after the
   * steps before it. A committed step may run again only after a rollback. In one generation, a
   * worker may get the same order only once.
   */
  #checkOrder(boss: Boss, life: Life | undefined, order: StepOrder & { generation: number }): void {
    if (this.#log.leader.name !== boss.name) return;
    const { program, step, generation } = order;
    const steps = program === 0 ? step : boss.state.steps[0]!;
    const found = life?.sets[steps % 2];
    const isRight = found?.value === weightsAfter(steps) || found?.value.startsWith('corrupt');
    if (life?.boss === boss && isAlive(life) && (!isRight || found?.steps !== steps)) {
      this.#wrongs.push(`${life.tpu} is to run step ${step} with ${JSON.stringify(found)}`);
    }
    if (program === 0 && step < this.#log.steps && step >= boss.repeatsTo) {
      this.#wrongs.push(`step ${step} is committed, and runs again`);
    }
    const times = `${life?.tpu}: ${program}, ${step} in ${generation}`;
    if (this.#started.has(times)) this.#wrongs.push(`${times} is ordered twice`);
    if (life !== undefined) this.#started.add(times);
  }

  /**
   * Checks that a rollback is necessary: no worker that is connected to the master may still have
   * the parameters after the newest committed step.
   */
  #checkRollback({ lives, state }: Boss): void {
    const { policy, chances } = this.#scenario;
    // An interrupted rollback begins again. This function checks only the first attempt.
    const isFirst = state.steps[0] === state.committed[0];
    if (policy !== 'replace' || chances.corrupt > 0 || !isFirst) return;
    for (const life of lives) {
      if (!life || !isAlive(life) || life.boss?.state !== state) continue;
      const { steps, keepsBefore } = life.state;
      if (!hasParametersAfter(steps, state.steps, copiesParameters, keepsBefore)) continue;
      this.#wrongs.push(`all goes back from ${state.steps}, and ${life.tpu} has ${steps}`);
    }
  }
}

const weightsAtStart: Weights = { steps: 0, value: weightsAfter(0) };

function newLife(tpu: number, host?: Life): Life {
  return {
    ...{ tpu, host, state: initialWorker(tpu, copiesParameters), isAlive: true, isHung: false },
    ...{ boss: undefined, connection: 0, sets: [nothing, nothing], inbox: [] },
    ...{ running: undefined, progress: 0, heartbeats: 0, isSpare: false },
  };
}

function isAlive({ isAlive: lives, host }: Life): boolean {
  return lives && (host?.isAlive ?? true);
}

function isHung({ isHung: hangs, host }: Life): boolean {
  return hangs || (host?.isHung ?? false);
}

/**
 * Returns which weights the running program of a worker reads, as a number of training steps. The
 * program reads the weights after this number of steps.
 */
function stepsOf({ running, state }: Life): number {
  const { order } = running!;
  return order.program === 0 ? order.step : state.next[0]!;
}

/** Returns a generator of numbers in [0, 1) with a fixed seed (xorshift). */
function randomFrom(seed: number): () => number {
  let state = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
