import type { StepCommitted } from '../../src/experiment/event.ts';
import { lostTpu } from '../../src/pod/master/action.ts';
import { type RunEvent, withoutNumber } from '../../src/run/event.ts';
import type { Sink } from '../../src/run/stream.ts';
import type { Death, ProcessPod } from '../process/pod.ts';
import type { ApiSource } from './api.ts';
import type { JobWatch } from './job.ts';
import type { Metrics } from './metrics.ts';

export interface RunStateEvents {
  /** Called with true once steps can run, and with false when steps can no longer run. */
  ready(isReady: boolean): void;
  /** Called when the worker of a Cloud TPU is lost, or must be replaced after repeated faults. */
  lost(tpu: number): void;
}

/** State of the run that a master leads, for the master's HTTP API. */
export class RunState implements ApiSource, JobWatch, Sink {
  isStopping = false;
  #job: string;
  readonly #metrics: Metrics;
  readonly #events: RunStateEvents;
  readonly #isServing: boolean;
  #pod: ProcessPod | undefined;
  #canStep = false;
  #last: StepCommitted | undefined;

  /**
   * `serving` is true if the master takes jobs. Such a master is ready even while it has no job,
   * and `job` is then the name of the pod. For any other master, `job` is the name of the run.
   */
  constructor(job: string, metrics: Metrics, events: RunStateEvents, serving: boolean) {
    this.#isServing = serving;
    this.#job = job;
    this.#metrics = metrics;
    this.#events = events;
  }

  isReady(): boolean {
    return this.#canStep || (this.#isServing && !this.isStopping);
  }

  /** True if steps can run now. */
  get canStep(): boolean {
    return this.#canStep;
  }

  /** Begins a job: `status` and metrics are about this job from now on. `job` is its name. */
  begin(job: string): void {
    this.#job = job;
    this.#last = undefined;
  }

  status(): unknown {
    const pod = this.#pod;
    const job = this.#job;
    if (pod === undefined) return { job, last: this.#last };
    const { tpus: members, ...rest } = pod.status();
    const tpus = members.length;
    return { job, ...rest, tpus, members, last: this.#last, linkBytes: pod.linkBytes() };
  }

  async metrics(): Promise<{ readonly type: string; readonly text: string }> {
    if (this.#pod !== undefined) this.#metrics.read(this.#job, this.#pod);
    return { type: this.#metrics.contentType, text: await this.#metrics.text() };
  }

  gathering(pod: ProcessPod): void {
    this.#pod = pod;
  }

  pod(pod: ProcessPod | undefined): void {
    if (pod === undefined) this.#metrics.end(this.#job, this.#pod);
    this.#pod = pod;
    this.#canStep = pod !== undefined;
    this.#events.ready(this.#canStep);
  }

  /**
   * Called when a worker process of this machine has died. Tells the pod, and returns true if the
   * pod decides whether the worker is replaced. Returns false if the caller must decide, for
   * example because there is no pod.
   */
  died(tpu: number, death: Death): boolean {
    return this.#pod?.died(tpu, death) ?? false;
  }

  /**
   * Takes an event of the run. If it is a step, keeps it for the answer to `/status`, without its
   * fields `v` and `n`. If a Cloud TPU is lost or quarantined, calls `RunStateEvents.lost`.
   */
  take(event: RunEvent): void {
    if (event.kind === 'step') this.#last = withoutNumber(event);
    if (event.kind !== 'note') return;
    const tpu = lostTpu(event.note);
    if (tpu !== null) this.#events.lost(tpu);
  }
}
