import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Note, StepTold, TrainEvent } from '../../src/experiment/event.ts';
import { linksOfSlice, type SliceLinks, visitWaits } from '../../src/experiment/link-causes.ts';
import { directions } from '../../src/fabric/torus.ts';
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
 * Number of jobs whose series are kept: the present job and those before it. A master that takes
 * jobs may run thousands of them, and a job of 64 Cloud TPUs has more than a thousand series.
 */
export const jobsKept = 4;

/** A metric with the label `job`. */
type JobMetric = Counter<string> | Gauge<string> | Histogram<string>;

/** The metrics of jobs. Each has the label `job`; no counter of a job ever falls. */
export class JobMetrics {
  readonly #all: JobMetric[] = [];
  /** The jobs whose series are kept, oldest first. */
  readonly #jobs: string[] = [];
  /** For each pod and link: the number of bytes that the counter already contains. */
  readonly #counted: WeakMap<ProcessPod, Map<string, number>> = new WeakMap();
  readonly #steps: Counter<string>;
  readonly #images: Counter<string>;
  readonly #stepSeconds: Histogram<string>;
  readonly #phaseSeconds: Histogram<string>;
  readonly #tpuPhaseSeconds: Counter<string>;
  readonly #slowestSteps: Counter<string>;
  readonly #causedWait: Counter<string>;
  readonly #stragglers: Counter<string>;
  readonly #losses: Counter<string>;
  readonly #recoveries: Counter<string>;
  readonly #stages: Counter<string>;
  readonly #recoverySeconds: Histogram<string>;
  readonly #checkpoints: Counter<string>;
  readonly #saveSeconds: Histogram<string>;
  readonly #linkBytes: Counter<string>;
  readonly #linkWait: Counter<string>;
  readonly #up: Gauge<string>;
  readonly #spares: Gauge<string>;
  readonly #generation: Gauge<string>;
  readonly #hbm: Gauge<string>;
  readonly #rate: Gauge<string>;
  readonly #loss: Gauge<string>;

  constructor(registry: Registry) {
    const add = <M extends JobMetric>(metric: M): M => {
      this.#all.push(metric);
      return metric;
    };
    const named = (name: string, help: string, labels: readonly string[]) => ({
      ...{ name, help, registers: [registry], labelNames: ['job', ...labels] },
    });
    const counter = (name: string, help: string, ...labels: string[]): Counter<string> =>
      add(new Counter(named(name, help, labels)));
    const gauge = (name: string, help: string, ...labels: string[]): Gauge<string> =>
      add(new Gauge(named(name, help, labels)));
    const seconds = (name: string, help: string, buckets: number[], ...labels: string[]) =>
      add(new Histogram({ ...named(name, help, labels), buckets }));
    this.#steps = counter('pod_steps_total', 'Steps committed.');
    this.#images = counter('pod_images_total', 'Images of the committed steps.');
    this.#stepSeconds = seconds('pod_step_seconds', 'Wall time of a step.', longBuckets);
    this.#phaseSeconds = seconds(
      'pod_phase_seconds',
      'Wall time of a phase of a step: one observation a Cloud TPU, and one for commit.',
      phaseBuckets,
      'phase',
    );
    this.#tpuPhaseSeconds = counter(
      'pod_tpu_phase_seconds_total',
      'Wall time of each phase on each Cloud TPU. all-reduce includes the wait for others.',
      ...['tpu', 'phase'],
    );
    this.#slowestSteps = counter(
      'pod_tpu_slowest_steps_total',
      'Steps in which the Cloud TPU took longest for its own work.',
      'tpu',
    );
    this.#causedWait = counter(
      'pod_tpu_caused_wait_seconds_total',
      'Mean wait of the other Cloud TPUs that the Cloud TPU caused as the slowest.',
      'tpu',
    );
    this.#stragglers = counter(
      'pod_stragglers_total',
      'Times that the Cloud TPU was reported as a straggler.',
      'tpu',
    );
    this.#losses = counter('pod_tpu_losses_total', 'Times that the Cloud TPU was lost.', 'tpu');
    this.#recoveries = counter('pod_recoveries_total', 'Recoveries that are complete.');
    this.#stages = counter(
      'pod_recovery_stages_total',
      'Faults and stages of recoveries, by name: lost, replaced, adopted, restored and others.',
      'stage',
    );
    this.#recoverySeconds = seconds(
      'pod_recovery_seconds',
      'Time from the first loss or fault to the end of the recovery.',
      longBuckets,
    );
    this.#checkpoints = counter(
      'pod_checkpoints_total',
      'Checkpoints, by outcome: saved, failed (to save), refused (as a source).',
      'outcome',
    );
    this.#saveSeconds = seconds(
      'pod_checkpoint_save_seconds',
      'Time to write a checkpoint, in the background.',
      longBuckets,
    );
    this.#linkBytes = counter(
      'pod_link_bytes_total',
      'Payload bytes that left the chips of the Cloud TPU in a direction of the torus.',
      ...['tpu', 'direction'],
    );
    this.#linkWait = counter(
      'pod_link_wait_seconds_total',
      'Time that other Cloud TPUs waited for frames of the Cloud TPU on its links in a direction.',
      ...['tpu', 'direction'],
    );
    this.#up = gauge('pod_tpu_up', '1 if a worker has joined for the Cloud TPU, else 0.', 'tpu');
    this.#spares = gauge('pod_spare_workers', 'Workers that wait for a Cloud TPU.');
    this.#generation = gauge('pod_membership_generation', 'Number of the present membership.');
    this.#hbm = gauge('pod_hbm_bytes_per_core', 'HBM that a step takes on each core.');
    this.#rate = gauge('pod_images_per_second', 'Images a second over recent steps.');
    this.#loss = gauge('pod_loss', 'Loss at the last step.');
  }

  /**
   * Begins the series of a job and returns the sink for the events of that job. Removes the series
   * of jobs that are too old (see {@link jobsKept}).
   */
  async begin(job: string): Promise<Sink> {
    this.#jobs.push(job);
    if (this.#jobs.length > jobsKept) await this.#forget(this.#jobs.shift());
    let imagesAStep = 0;
    let links: SliceLinks | undefined;
    for (const counter of [this.#steps, this.#images, this.#recoveries]) counter.inc({ job }, 0);
    for (const outcome of ['saved', 'failed', 'refused'])
      this.#checkpoints.inc({ job, outcome }, 0);
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
   * Reads from the pod of a job the bytes of its links, which no event tells, and the state of its
   * members. `pod` may be closed.
   */
  read(job: string, pod: ProcessPod): void {
    this.#readLinks(job, pod);
    const { generation, spares, tpus } = pod.status();
    this.#generation.set({ job }, generation);
    this.#spares.set({ job }, spares);
    for (const { tpu, state } of tpus) this.#up.set({ job, tpu }, state === 'joined' ? 1 : 0);
  }

  /**
   * Counts the last bytes of the links of a job, and removes its gauges, which describe only a job
   * that runs. `pod` is the pod of the job, if the job has one.
   */
  end(job: string, pod: ProcessPod | undefined): void {
    if (pod !== undefined) {
      this.#readLinks(job, pod);
      for (const { tpu } of pod.status().tpus) this.#up.remove({ job, tpu });
    }
    for (const gauge of [this.#spares, this.#generation, this.#hbm, this.#rate, this.#loss])
      gauge.remove({ job });
  }

  #readLinks(job: string, pod: ProcessPod): void {
    const counted = this.#counted.get(pod) ?? new Map<string, number>();
    this.#counted.set(pod, counted);
    for (const [link, bytes] of Object.entries(pod.linkBytes())) {
      const more = bytes - (counted.get(link) ?? 0);
      counted.set(link, bytes);
      this.#linkBytes.inc({ job, ...ownerOf(link, pod.topology.columns) }, more);
    }
  }

  /**
   * Starts the counters of each Cloud TPU at 0. A counter whose first value is 1 would show no rise
   * to a monitoring system.
   */
  #started(job: string, { tpus, hbmBytesPerCore }: TrainEvent & { kind: 'started' }): void {
    this.#hbm.set({ job }, hbmBytesPerCore);
    for (let tpu = 0; tpu < tpus; tpu++) {
      for (const counter of [this.#losses, this.#stragglers, this.#slowestSteps, this.#causedWait])
        counter.inc({ job, tpu }, 0);
    }
  }

  #step(job: string, event: StepTold, images: number): void {
    const { phaseMs, slowest, timing, tpuPhaseMs = [] } = event;
    this.#steps.inc({ job });
    this.#images.inc({ job }, images);
    this.#stepSeconds.observe({ job }, seconds(event.wallMs));
    this.#phaseSeconds.observe({ job, phase: 'commit' }, seconds(phaseMs.commit));
    for (const [tpu, times] of tpuPhaseMs.entries()) this.#phases(job, tpu, times);
    if (slowest !== undefined && timing !== undefined && slowest.othersMs > 0) {
      this.#slowestSteps.inc({ job, tpu: slowest.tpu });
      this.#causedWait.inc({ job, tpu: slowest.tpu }, seconds(timing.causedMs));
    }
    this.#rate.set({ job }, event.imagesPerSecond);
    this.#loss.set({ job }, event.loss);
  }

  #waits(job: string, { tpuLinkWaitMs = [] }: StepTold, links: SliceLinks): void {
    visitWaits(tpuLinkWaitMs, links, ({ from, direction }, waitMs) =>
      this.#linkWait.inc({ job, tpu: from, direction }, seconds(waitMs)),
    );
  }

  #phases(job: string, tpu: number, times: readonly number[]): void {
    for (const [i, phase] of phases.entries()) {
      const time = seconds(times[i] ?? 0);
      this.#phaseSeconds.observe({ job, phase }, time);
      this.#tpuPhaseSeconds.inc({ job, tpu, phase }, time);
    }
  }

  #take(job: string, event: RunEvent): void {
    switch (event.kind) {
      case 'straggler':
        this.#stragglers.inc({ job, tpu: event.tpu });
        return;
      case 'checkpoint':
        this.#checkpoints.inc({ job, outcome: 'saved' });
        this.#saveSeconds.observe({ job }, seconds(event.wallMs));
        return;
      case 'checkpoint-failed':
        this.#checkpoints.inc({ job, outcome: 'failed' });
        return;
      case 'checkpoint-refused':
        this.#checkpoints.inc({ job, outcome: 'refused' });
        return;
      case 'resumed':
      case 'warm-started':
        this.#checkpoints.inc({ job, outcome: 'refused' }, event.refused.length);
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
    if (lost !== null) this.#losses.inc({ job, tpu: lost });
    this.#stages.inc({ job, stage: note.event });
    if (note.event !== 'resumed') return;
    this.#recoveries.inc({ job });
    this.#recoverySeconds.observe({ job }, seconds(note.elapsedMs));
  }

  async #forget(job: string | undefined): Promise<void> {
    for (const metric of this.#all) {
      for (const { labels } of (await metric.get()).values) {
        const { le: _, ...own } = labels as Readonly<Record<string, string | number>>;
        if (own['job'] === job) metric.remove(own);
      }
    }
  }
}

/**
 * Converts a duration from ms to seconds. A duration that is negative or no number, which a worker
 * with a broken clock may report, becomes 0: a counter must not fall.
 */
function seconds(ms: number): number {
  return Number.isFinite(ms) ? Math.max(0, ms / 1000) : 0;
}

/**
 * Returns the Cloud TPU from which a link leaves, and the direction of the link. `link` is a name
 * such as `chip(3,1)+x`: a chip, and a direction. A Cloud TPU has 2×2 chips, so its column and row
 * are half of the chip's. `columns` is the number of columns of Cloud TPUs.
 */
function ownerOf(link: string, columns: number): { readonly tpu: number; direction: string } {
  const [x = 0, y = 0] = (link.match(/\d+/g) ?? []).map(Number);
  const direction = directions.find((it) => link.endsWith(it)) ?? '';
  return { tpu: (y >> 1) * columns + (x >> 1), direction };
}
