import { Counter, Gauge, Registry } from 'prom-client';
import type { Sink } from '../../src/run/stream.ts';
import type { ProcessPod } from '../process/pod.ts';
import { JobMetrics } from './job-metrics.ts';
import type { EndedJob, Job } from './jobs.ts';
import { addProcessMetrics } from './process-metrics.ts';

/** States in which a job ends. */
const ends: readonly EndedJob['state'][] = ['done', 'failed', 'cancelled'];

/** A metric of a master, for the docs. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  /** `counter`, `gauge` or `histogram`. */
  readonly type: string;
  readonly labels: readonly string[];
}

/**
 * Fields that every metric of the package prom-client has, although the package does not declare
 * their types.
 */
interface Described extends Omit<MetricFamily, 'labels'> {
  readonly labelNames: readonly string[];
}

/**
 * The Prometheus metrics of a master: of its process, of its queue of jobs, and of each job. The
 * run of a master that takes no jobs counts as one job.
 */
export class Metrics {
  readonly #registry: Registry = new Registry();
  readonly #jobs: JobMetrics = new JobMetrics(this.#registry);

  constructor() {
    addProcessMetrics(this.#registry);
  }

  /** The value of the HTTP header `content-type` of {@link text}. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Begins the metrics of a job. Returns the sink that takes the events of the job. */
  begin(job: string): Promise<Sink> {
    return this.#jobs.begin(job);
  }

  /**
   * Updates the metrics that no event tells: the links and the members of the pod that runs a job.
   */
  read(job: string, pod: ProcessPod): void {
    this.#jobs.read(job, pod);
  }

  /**
   * Ends the metrics of a job: counts the bytes that its links have carried since the last `read`,
   * and removes its gauges.
   */
  end(job: string, pod: ProcessPod | undefined): void {
    this.#jobs.end(job, pod);
  }

  /**
   * Adds the metrics of a queue of jobs. `list` returns all jobs. Returns a function, to be called
   * each time that a job has ended. Its argument is the final state of the job.
   */
  addQueue(list: () => readonly Pick<Job, 'state'>[]): (state: EndedJob['state']) => void {
    const registers = [this.#registry];
    const gauge = (name: string, help: string, state: Job['state']): void => {
      new Gauge({
        ...{ name, help, registers },
        collect() {
          this.set(list().filter((it) => it.state === state).length);
        },
      });
    };
    gauge('pod_jobs_queued', 'Jobs that wait.', 'queued');
    gauge('pod_jobs_running', 'Jobs that run: 0 or 1.', 'running');
    const ended = new Counter({
      ...{ name: 'pod_jobs_ended_total', registers, labelNames: ['state'] },
      help: 'Jobs that ended while this master ran, by state: done, failed, cancelled.',
    });
    for (const state of ends) ended.inc({ state }, 0);
    return (state) => ended.inc({ state });
  }

  /** Returns name, type, labels and help text of each metric. */
  families(): readonly MetricFamily[] {
    return this.#registry.getMetricsAsArray().map((metric) => {
      const { name, help, type, labelNames } = metric as unknown as Described;
      return { name, help, type, labels: labelNames };
    });
  }

  /** Returns all metrics in the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
