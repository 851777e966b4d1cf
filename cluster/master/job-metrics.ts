import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Note, StepTold, TrainEvent } from '../../src/experiment/event.ts';
import { linksOfSlice, type SliceLinks, visitWaits } from '../../src/experiment/link-causes.ts';
import { slowestAmongOthers } from '../../src/experiment/straggler.ts';
import { linkSource, parseLinkName, podTorus } from '../../src/fabric/torus.ts';
import { phases } from '../../src/isa/executable.ts';
import { lostTpu } from '../../src/pod/master/action.ts';
import type { RunEvent } from '../../src/run/event.ts';
import type { Sink } from '../../src/run/stream.ts';
import type { ProcessPod } from '../process/pod.ts';

/** Upper bounds, in seconds, of the buckets for a whole step, a save and a recovery. */
const longBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** Upper bounds, in seconds, of the buckets for a phase of a step. */
const phaseBuckets = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
];
/**
 * Number of jobs whose metrics are kept: the present job and the jobs just before it. A master may
 * run thousands of jobs, and one job of 64 Cloud TPUs has more than a thousand time series, so the
 * series of older jobs are removed.
 */
export const jobsKept = 4;

/** Adds the metrics of jobs to a registry and returns them. Each has the label `job`. */
function metricsIn(registry: Registry) {
  const named = (name: string, help: string, labels: readonly string[]) => ({
    ...{ name, help, registers: [registry], labelNames: ['job', ...labels] },
  });
  const counter = (name: string, help: string, ...labels: string[]): Counter<string> =>
    new Counter(named(name, help, labels));
  const gauge = (name: string, help: string, ...labels: string[]): Gauge<string> =>
    new Gauge(named(name, help, labels));
  const histogram = (name: string, help: string, buckets: number[], ...labels: string[]) =>
    new Histogram({ ...named(name, help, labels), buckets });
  return {
    steps: counter('pod_steps_total', 'Steps committed.'),
    images: counter('pod_images_total', 'Images of the committed steps.'),
    stepSeconds: histogram('pod_step_seconds', 'Wall time of a step.', longBuckets),
    phaseSeconds: histogram(
      'pod_phase_seconds',
      'Wall time of a phase of a step: one observation a Cloud TPU, and one for commit.',
      phaseBuckets,
      'phase',
    ),
    tpuPhaseSeconds: counter(
      'pod_tpu_phase_seconds_total',
      'Wall time of each phase on each Cloud TPU. all-reduce includes the wait for others.',
      ...['tpu', 'phase'],
    ),
    slowestSteps: counter(
      'pod_tpu_slowest_steps_total',
      'Steps in which the Cloud TPU took longest for its own work.',
      'tpu',
    ),
    causedWait: counter(
      'pod_tpu_caused_wait_seconds_total',
      'Mean wait of the other Cloud TPUs that the Cloud TPU caused as the slowest.',
      'tpu',
    ),
    stragglers: counter(
      'pod_stragglers_total',
      'Times that the Cloud TPU was reported as a straggler.',
      'tpu',
    ),
    losses: counter('pod_tpu_losses_total', 'Times that the Cloud TPU was lost.', 'tpu'),
    recoveries: counter('pod_recoveries_total', 'Recoveries that are complete.'),
    stages: counter(
      'pod_recovery_stages_total',
      'Faults and stages of recoveries, by name: lost, replaced, adopted, restored and others.',
      'stage',
    ),
    recoverySeconds: histogram(
      'pod_recovery_seconds',
      'Time from the first loss or fault to the end of the recovery.',
      longBuckets,
    ),
    checkpoints: counter(
      'pod_checkpoints_total',
      'Checkpoints, by outcome: saved, failed (to save), refused (as a source).',
      'outcome',
    ),
    saveSeconds: histogram(
      'pod_checkpoint_save_seconds',
      'Time to write a checkpoint, in the background.',
      longBuckets,
    ),
    linkBytes: counter(
      'pod_link_bytes_total',
      'Payload bytes that left the chips of the Cloud TPU in a direction of the torus.',
      ...['tpu', 'direction'],
    ),
    linkWait: counter(
      'pod_link_wait_seconds_total',
      'Time that other Cloud TPUs waited for frames of the Cloud TPU on its links in a direction.',
      ...['tpu', 'direction'],
    ),
    up: gauge('pod_tpu_up', '1 if a worker has joined for the Cloud TPU, else 0.', 'tpu'),
    spares: gauge('pod_spare_workers', 'Workers that wait for a Cloud TPU.'),
    generation: gauge('pod_membership_generation', 'Number of the present membership.'),
    hbm: gauge('pod_hbm_bytes_per_core', 'HBM that a step takes on each core.'),
    rate: gauge('pod_images_per_second', 'Images a second over recent steps.'),
    loss: gauge('pod_loss', 'Loss at the last step.'),
  };
}

/** The metrics of jobs. Each has the label `job`; no counter of a job ever falls. */
export class JobMetrics {
  /** The jobs whose series are kept, oldest first. */
  readonly #jobs: string[] = [];
  /**
   * For each pod, and for each of its links by name: the number of bytes that have been added to
   * the counter `linkBytes` so far.
   */
  readonly #counted: WeakMap<ProcessPod, Map<string, number>> = new WeakMap();
  readonly #metrics: ReturnType<typeof metricsIn>;

  constructor(registry: Registry) {
    this.#metrics = metricsIn(registry);
  }

  /**
   * Begins the metrics of a job. Returns the sink that takes the events of the job. If metrics of
   * more than {@link jobsKept} jobs exist, removes those of the oldest job.
   */
  async begin(job: string): Promise<Sink> {
    this.#jobs.push(job);
    if (this.#jobs.length > jobsKept) await this.#forget(this.#jobs.shift());
    let imagesAStep = 0;
    let links: SliceLinks | undefined;
    const { steps, images, recoveries, checkpoints } = this.#metrics;
    for (const counter of [steps, images, recoveries]) counter.inc({ job }, 0);
    for (const outcome of ['saved', 'failed', 'refused']) checkpoints.inc({ job, outcome }, 0);
    return {
      take: (event: RunEvent): void => {
        if (event.kind === 'started') {
          imagesAStep = event.config.globalBatch;
          links = linksOfSlice(event.config.topology);
          this.#started(job, event);
        } else if (event.kind === 'step') {
          this.#step(job, event, imagesAStep);
          if (links !== undefined) this.#waits(job, event, links);
        } else this.#take(job, event);
      },
    };
  }

  /**
   * Updates the metrics that are read from the pod of a job: the bytes on its links and the state
   * of its members. No event contains the bytes on the links. `pod` may be closed.
   */
  read(job: string, pod: ProcessPod): void {
    this.#readLinks(job, pod);
    const { generation, spares, tpus } = pod.status();
    this.#metrics.generation.set({ job }, generation);
    this.#metrics.spares.set({ job }, spares);
    for (const { tpu, state } of tpus) {
      this.#metrics.up.set({ job, tpu }, state === 'joined' ? 1 : 0);
    }
  }

  /**
   * Ends the metrics of a job. Counts the bytes that its links have carried since the last `read`.
   * Removes the gauges of the job, because a gauge describes a running job. `pod` is undefined if
   * the job never had a pod.
   */
  end(job: string, pod: ProcessPod | undefined): void {
    const { up, spares, generation, hbm, rate, loss } = this.#metrics;
    if (pod !== undefined) {
      this.#readLinks(job, pod);
      for (const { tpu } of pod.status().tpus) up.remove({ job, tpu });
    }
    for (const gauge of [spares, generation, hbm, rate, loss]) gauge.remove({ job });
  }

  #readLinks(job: string, pod: ProcessPod): void {
    const counted = this.#counted.get(pod) ?? new Map<string, number>();
    this.#counted.set(pod, counted);
    const torus = podTorus(pod.topology);
    for (const [link, bytes] of Object.entries(pod.linkBytes())) {
      const more = bytes - (counted.get(link) ?? 0);
      counted.set(link, bytes);
      const { worker: tpu, direction } = linkSource(torus, parseLinkName(torus, link));
      this.#metrics.linkBytes.inc({ job, tpu, direction }, more);
    }
  }

  /**
   * Starts the counters of each Cloud TPU at 0. If a counter appeared with the value 1, a
   * monitoring system would not see the rise from 0 to 1.
   */
  #started(job: string, { tpus, hbmBytesPerCore }: TrainEvent & { kind: 'started' }): void {
    const { hbm, losses, stragglers, slowestSteps, causedWait } = this.#metrics;
    hbm.set({ job }, hbmBytesPerCore);
    for (let tpu = 0; tpu < tpus; tpu++) {
      for (const counter of [losses, stragglers, slowestSteps, causedWait])
        counter.inc({ job, tpu }, 0);
    }
  }

  #step(job: string, event: StepTold, images: number): void {
    const { phaseMs, tpuPhaseMs = [] } = event;
    this.#metrics.steps.inc({ job });
    this.#metrics.images.inc({ job }, images);
    this.#metrics.stepSeconds.observe({ job }, seconds(event.wallMs));
    this.#metrics.phaseSeconds.observe({ job, phase: 'commit' }, seconds(phaseMs.commit));
    for (const [tpu, times] of tpuPhaseMs.entries()) this.#phases(job, tpu, times);
    const found = slowestAmongOthers(event);
    if (found !== undefined) {
      this.#metrics.slowestSteps.inc({ job, tpu: found.slowest.tpu });
      this.#metrics.causedWait.inc({ job, tpu: found.slowest.tpu }, seconds(found.timing.causedMs));
    }
    this.#metrics.rate.set({ job }, event.imagesPerSecond);
    this.#metrics.loss.set({ job }, event.loss);
  }

  #waits(job: string, { tpuLinkWaitMs = [] }: StepTold, links: SliceLinks): void {
    visitWaits(tpuLinkWaitMs, links, ({ from, direction }, waitMs) =>
      this.#metrics.linkWait.inc({ job, tpu: from, direction }, seconds(waitMs)),
    );
  }

  #phases(job: string, tpu: number, times: readonly number[]): void {
    for (const [i, phase] of phases.entries()) {
      const time = seconds(times[i] ?? 0);
      this.#metrics.phaseSeconds.observe({ job, phase }, time);
      this.#metrics.tpuPhaseSeconds.inc({ job, tpu, phase }, time);
    }
  }

  #take(job: string, event: RunEvent): void {
    switch (event.kind) {
      case 'straggler':
        this.#metrics.stragglers.inc({ job, tpu: event.tpu });
        return;
      case 'checkpoint':
        this.#metrics.checkpoints.inc({ job, outcome: 'saved' });
        this.#metrics.saveSeconds.observe({ job }, seconds(event.wallMs));
        return;
      case 'checkpoint-failed':
        this.#metrics.checkpoints.inc({ job, outcome: 'failed' });
        return;
      case 'checkpoint-refused':
        this.#metrics.checkpoints.inc({ job, outcome: 'refused' });
        return;
      case 'resumed':
      case 'warm-started':
        this.#metrics.checkpoints.inc({ job, outcome: 'refused' }, event.refused.length);
        return;
      case 'note':
        this.#note(job, event.note);
        return;
      default:
        return;
    }
  }

  #note(job: string, note: Note): void {
    const lost = lostTpu(note);
    if (lost !== null) this.#metrics.losses.inc({ job, tpu: lost });
    this.#metrics.stages.inc({ job, stage: note.event });
    if (note.event !== 'resumed') return;
    this.#metrics.recoveries.inc({ job });
    this.#metrics.recoverySeconds.observe({ job }, seconds(note.elapsedMs));
  }

  async #forget(job: string | undefined): Promise<void> {
    for (const metric of Object.values(this.#metrics)) {
      for (const { labels } of (await metric.get()).values) {
        const { le: _, ...own } = labels as Readonly<Record<string, string | number>>;
        if (own['job'] === job) metric.remove(own);
      }
    }
  }
}

/**
 * Converts a duration from ms to seconds. A worker with a broken clock may report a negative
 * duration, or NaN. Such a duration becomes 0, because a counter must not fall.
 */
function seconds(ms: number): number {
  return Number.isFinite(ms) ? Math.max(0, ms / 1000) : 0;
}
