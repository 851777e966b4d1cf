import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { StepCommitted } from '../../src/experiment/event.ts';
import { lostTpu } from '../../src/pod/master/action.ts';
import type { RunEvent } from '../../src/run/event.ts';
import type { Sink } from '../../src/run/stream.ts';
import type { ProcessPod } from '../process/pod.ts';

/** The Prometheus metrics of a run. */
export class Metrics implements Sink {
  readonly #registry: Registry = new Registry();
  readonly #steps: Counter;
  readonly #stepSeconds: Histogram;
  readonly #phaseSeconds: Counter;
  readonly #losses: Counter;
  readonly #generation: Gauge;
  readonly #hbm: Gauge;
  readonly #rate: Gauge;
  readonly #loss: Gauge;
  readonly #linkBytes: Gauge;

  constructor() {
    const registers = [this.#registry];
    const help = (name: string, text: string) => ({ name, help: text, registers });
    this.#steps = new Counter(help('pod_steps_total', 'Steps committed.'));
    this.#stepSeconds = new Histogram({
      ...help('pod_step_seconds', 'Wall time of a step.'),
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    });
    this.#phaseSeconds = new Counter({
      ...help(
        'pod_phase_seconds_total',
        'Wall time of each phase of a step, as the mean over the Cloud TPUs.',
      ),
      labelNames: ['phase'],
    });
    this.#losses = new Counter(help('pod_restarts_total', 'Cloud TPUs that were lost.'));
    this.#generation = new Gauge(
      help('pod_membership_generation', 'Generation of the present membership.'),
    );
    this.#hbm = new Gauge(help('pod_hbm_bytes_per_core', 'HBM that a step takes on each core.'));
    this.#rate = new Gauge(help('pod_images_per_second', 'Images a second over recent steps.'));
    this.#loss = new Gauge(help('pod_loss', 'Loss at the last step.'));
    this.#linkBytes = new Gauge({
      ...help('pod_link_bytes', 'Bytes carried by each directed link of the torus.'),
      labelNames: ['link'],
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  take(event: RunEvent): void {
    switch (event.kind) {
      case 'started':
        this.#hbm.set(event.hbmBytesPerCore);
        return;
      case 'step':
        this.#step(event);
        return;
      case 'note':
        if (lostTpu(event.note) !== null) this.#losses.inc();
        return;
      default:
        return;
    }
  }

  /**
   * Returns all metrics in the text format of Prometheus. If `pod` is given, first reads the pod's
   * generation and link bytes into the metrics.
   */
  text(pod: ProcessPod | undefined): Promise<string> {
    if (pod !== undefined) {
      this.#generation.set(pod.status().generation);
      for (const [link, bytes] of Object.entries(pod.linkBytes())) {
        this.#linkBytes.set({ link }, bytes);
      }
    }
    return this.#registry.metrics();
  }

  #step(event: StepCommitted): void {
    this.#steps.inc();
    this.#stepSeconds.observe(event.wallMs / 1000);
    for (const [phase, ms] of Object.entries(event.phaseMs)) {
      this.#phaseSeconds.inc({ phase }, ms / 1000);
    }
    this.#rate.set(event.imagesPerSecond);
    this.#loss.set(event.loss);
  }
}
