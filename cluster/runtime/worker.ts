import { performance } from 'node:perf_hooks';
import type { CoreUnits } from '../../src/chip/units.ts';
import { assert, at, broken, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { checkToWorker, type FromWorker, type StepOrder } from '../../src/pod/messages.ts';
import {
  initialWorker,
  type WorkerAction,
  type WorkerEvent,
  worker,
} from '../../src/pod/worker.ts';
import { type Host, loadHost } from './host.ts';
import { Heartbeat } from './ports.ts';
import type { WorkerTask } from './task.ts';

/**
 * Entry function of a Cloud TPU's thread: runs the worker's state machine to its end. If the worker
 * does not fail, the function resolves to null. If the worker fails, it posts the message `failed`
 * to its port, and the function resolves to the same message. Posting alone is not enough, because
 * the message may arrive after the report that the thread has ended.
 */
export default async function runWorker(task: WorkerTask): Promise<FromWorker | null> {
  const plainCode = await plainCodeFor(task.programs);
  return new Promise((resolve) => {
    const { port, memory, layout } = task;
    const heartbeat = new Heartbeat(memory, at(layout.tpus, task.tpu).control, layout.fabric);
    const taking = task.programs.map(({ parametersFrom }) => parametersFrom !== undefined);
    let state = initialWorker(task.tpu, taking);
    let host: Host | undefined;
    let lastWords: FromWorker | null = null;
    const give = (event: WorkerEvent): void => {
      const next = worker(state, event);
      state = next.state;
      next.actions.forEach(perform);
    };
    const perform = (action: WorkerAction): void => {
      switch (action.kind) {
        case 'send':
          if (action.message.kind === 'failed') lastWords = action.message;
          port.postMessage(action.message);
          break;
        case 'load':
          give(load(action.generation, action.steps));
          break;
        case 'run':
          give(run(action.order));
          break;
        case 'interrupt':
          // Nothing is left to do. The thread takes the message of an abort only between steps. By
          // then the abort flag in the shared memory has already ended the step.
          break;
        case 'end':
          port.close();
          resolve(lastWords);
          break;
        default:
          unreachable(action);
      }
    };
    const load = (generation: number, steps: readonly number[]): WorkerEvent =>
      attempt(() => {
        host ??= loadHost(task, { heartbeat, clock: now, plainCode });
        return { kind: 'loaded', digests: host.join(generation, steps) };
      });
    const run = (order: StepOrder): WorkerEvent => {
      const event = attempt(() => {
        assert(host !== undefined, 'a step before programs are loaded');
        return { kind: 'ran', report: host.run(order) };
      });
      // An error in an aborted step is a consequence of the abort, so the step is reported as
      // interrupted.
      return event.kind === 'threw' && heartbeat.isAborted ? { kind: 'interrupted' } : event;
    };
    port.on('message', (value: unknown) => {
      give(attempt(() => ({ kind: 'message', message: checkToWorker(value) })));
    });
    port.on('close', () => give({ kind: 'disconnected' }));
    give({ kind: 'started' });
  });
}

/**
 * Loads the interpreter of plain code, if a program has an instruction for it. Most programs have
 * none, and start faster without it.
 */
async function plainCodeFor(programs: WorkerTask['programs']): Promise<CoreUnits['plainCode']> {
  const isPlain = programs.some(({ executable }) =>
    executable.instructions.some(({ unit }) => unit === 'plain'),
  );
  if (isPlain) return (await import('../../src/hlo/plain-code.ts')).plainCode;
  return () => broken('a program without plain code has no such instruction');
}

function now(): number {
  return performance.now();
}

/**
 * Returns the event that `work` returns. If `work` throws, returns the event `threw` with the
 * error, so that every error reaches the master.
 */
function attempt(work: () => WorkerEvent): WorkerEvent {
  try {
    return work();
  } catch (error) {
    return { kind: 'threw', ...describe(error) };
  }
}

function describe(error: unknown): { code: string | null; message: string } {
  if (error instanceof PodError) return { code: error.code, message: error.message };
  if (error instanceof Error) return { code: null, message: `${error.name}: ${error.message}` };
  return { code: null, message: String(error) };
}
