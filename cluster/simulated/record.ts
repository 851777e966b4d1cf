import type { StepCommitted, TrainEvent } from '../../src/experiment/event.ts';
import { evaluateProgram } from '../../src/experiment/program-index.ts';
import { scalar } from '../../src/experiment/step-event.ts';
import type { CheckpointSeen } from '../../src/fault/kept.ts';
import type { CommitSeen, Observation } from '../../src/fault/verdict.ts';
import { at } from '../../src/numerics/assert.ts';
import type { Commit } from '../../src/pod/pod.ts';
import type { Committed, Happening, SimulatedEvent } from './event.ts';
import type { Traffic } from './network.ts';

/** Record of a simulated run, over all its masters. */
export class SimulationRecord {
  readonly events: (SimulatedEvent | Committed)[] = [];
  readonly commits: CommitSeen[] = [];
  /**
   * Batches that were evaluated. If several masters have evaluated, only the batches of the last
   * one.
   */
  readonly evaluation: CommitSeen[] = [];
  /** Checkpoints that `train` has reported as saved, in order of time. */
  readonly saves: CheckpointSeen[] = [];
  /** Checkpoints that a fault has damaged, in order of time. */
  readonly damages: CheckpointSeen[] = [];
  readonly #notes: Observation['notes'][number][] = [];
  readonly #injections: Observation['injections'][number][] = [];
  readonly #stragglers: Observation['stragglers'][number][] = [];
  readonly #takeovers: { readonly ms: number }[] = [];
  readonly #nowMs: () => number;
  readonly #traffic: () => Traffic;
  #beginMs = 0;
  #endMs: number | undefined;

  /**
   * `nowMs` returns the virtual time. `traffic` returns how much the network has carried so far.
   */
  constructor(nowMs: () => number, traffic: () => Traffic) {
    this.#nowMs = nowMs;
    this.#traffic = traffic;
  }

  /** Number of the last committed step, from 1; 0 if there is none. */
  get lastStep(): number {
    return this.commits.at(-1)?.step ?? 0;
  }

  /** Records an event of the simulation. */
  log(event: Happening): void {
    const ms = this.#nowMs();
    this.events.push({ ms, ...event });
    if (event.event === 'noted') this.#notes.push({ ms, note: event.note });
    if (event.event === 'injected') this.#injections.push({ ms, index: event.index });
    if (event.event === 'master-began' && event.master > 1) this.#takeovers.push({ ms });
  }

  /**
   * Records those steps of the commit log that are not recorded yet. A master has committed them,
   * but was lost before it reported them. `history` has all steps that the next master has found in
   * the commit log.
   */
  found(history: readonly StepCommitted[]): void {
    for (const step of history) if (step.step > this.lastStep) this.#commit(step);
  }

  /** Records an event that `train` has reported. */
  told(event: TrainEvent): void {
    if (event.kind === 'step') this.#commit(event);
    if (event.kind === 'checkpoint') this.saves.push({ ms: this.#nowMs(), step: event.step });
    if (event.kind === 'straggler') this.#stragglers.push({ ms: this.#nowMs(), tpu: event.tpu });
    if (event.kind === 'ready' && this.#beginMs === 0) this.#beginMs = this.#nowMs();
    if (event.kind === 'evaluating') {
      this.#endMs ??= this.#nowMs();
      // A master that takes over evaluates all batches again, so the batches recorded before are
      // dropped.
      this.evaluation.length = 0;
    }
  }

  /** Records that a fault has damaged the checkpoint of a step. */
  damaged(step: number): void {
    this.damages.push({ ms: this.#nowMs(), step });
  }

  /** Records a batch of the evaluation. */
  ran({ program, step, digest, reports, wallMs }: Commit): void {
    if (program !== evaluateProgram) return;
    const loss = scalar(at(at(reports, 0).outfeed, 1));
    this.evaluation.push({ step: step + 1, digest, loss, ms: this.#nowMs(), wallMs });
  }

  /** Returns what was seen of the run. An empty `message` says that the run has not failed. */
  observation(message: string): Observation {
    const outcome = message === '' ? 'done' : 'failed';
    const nowMs = this.#nowMs();
    return {
      ...{ outcome, message, commits: this.commits, beginMs: this.#beginMs },
      ...{ notes: this.#notes, injections: this.#injections, stragglers: this.#stragglers },
      takeovers: this.#takeovers,
      endMs: this.#endMs ?? nowMs,
    };
  }

  #commit({ step, digest, loss, wallMs }: StepCommitted): void {
    const ms = this.#nowMs();
    const commit: CommitSeen = { step, digest, loss, ms, wallMs };
    this.commits.push(commit);
    this.events.push({ ms, event: 'committed', commit, traffic: { ...this.#traffic() } });
  }
}
