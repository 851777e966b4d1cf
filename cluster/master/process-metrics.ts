import { performance } from 'node:perf_hooks';
import { Counter, Gauge, type Registry } from 'prom-client';
import { version } from '../../src/cli/version.ts';

/**
 * Adds metrics of this process to a registry: version, processor time, memory, start time, and the
 * time in which the event loop was busy. The changing values are computed only when the registry is
 * read.
 *
 * The default metrics of the package prom-client are not used, for two reasons. Some are gauges
 * with names that end in `_total`, which promtool refuses. And to measure the event loop they need
 * a timer.
 */
export function addProcessMetrics(registry: Registry): void {
  const registers = [registry];
  new Gauge({
    ...{ name: 'pod_build_info', registers, labelNames: ['version', 'node'] },
    help: 'Constant 1, with the versions of pod and of Node as labels.',
  }).set({ version, node: process.version }, 1);
  growing(registry, 'process_cpu_seconds_total', 'Processor time, user and system.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  new Gauge({
    ...{ name: 'process_resident_memory_bytes', help: 'Resident memory.', registers },
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  new Gauge({
    ...{ name: 'process_start_time_seconds', registers },
    help: 'Start of the process, in seconds since 1970.',
  }).set(performance.timeOrigin / 1000);
  growing(
    registry,
    'nodejs_eventloop_busy_seconds_total',
    'Time in which the event loop did not wait for events; its rate is the utilization.',
    () => performance.eventLoopUtilization().active / 1000,
  );
}

/**
 * Adds a counter whose value comes from `read`, which is called each time that the registry is
 * read. If `read` returns less than before, the counter keeps its value.
 */
function growing(registry: Registry, name: string, help: string, read: () => number): void {
  let counted = 0;
  new Counter({
    ...{ name, help, registers: [registry] },
    collect() {
      const value = Math.max(counted, read());
      this.inc(value - counted);
      counted = value;
    },
  });
}
