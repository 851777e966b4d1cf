import { join } from 'node:path';
import { absoluteMs } from '../../cluster/threads/fault-file.ts';
import { keyOf } from '../experiment/same-run.ts';
import { formatTopology } from '../fabric/torus.ts';
import type { FaultOutcome, Observation, Verdict } from '../fault/verdict.ts';
import { writeOutput } from '../files/write.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { jsonText, oneLine } from '../numerics/quote.ts';
import { eventVersion, isUnderWay, type RunEvent } from '../run/event.ts';
import { runFiles } from '../run/files.ts';
import type { JudgedRun } from '../run/judged.ts';
import { RunStream, type Sink } from '../run/stream.ts';
import { checkOutputs } from './outputs.ts';
import type { PlannedRun } from './planned-run.ts';
import { type RecordedStart, RunFolder } from './run-folder.ts';
import { recordedStart } from './run-settings.ts';
import { mergeSettings } from './settings/merge.ts';
import { sourceOfFlags } from './settings/source.ts';
import { simulatedFacts } from './simulated-record.ts';

/**
 * Returns a copy of a planned run that is to be recorded in `folder`. Changes nothing on disk.
 *
 * @throws PodError `bad-flag` if the folder cannot be used.
 */
export function recordedTo(planned: PlannedRun, folder: string): PlannedRun {
  const settings = mergeSettings('train', [sourceOfFlags({ run: folder })]);
  checkOutputs(settings, []);
  const { options, ofProcesses } = planned;
  return {
    ...planned,
    options: { ...options, run: folder },
    ofProcesses: ofProcesses?.with('run', folder, '--run'),
  };
}

/**
 * The record, in a folder, of a run with the faults of a plan. The events of a pod of threads are
 * recorded here as they happen, and those of a simulation after its end, with virtual times. The
 * events of a pod of processes or containers are recorded by its master.
 */
export class ChaosRecord {
  readonly #planned: PlannedRun;
  readonly #path: string;
  readonly #start: RecordedStart;
  /** Virtual time, in ms, of the event that is told next; undefined outside a simulation. */
  #nowMs: number | undefined;
  #folder: RunFolder | undefined;
  /** Receiver of the events of a pod of threads; undefined for other kinds of pods. */
  readonly stream: RunStream | undefined;

  /**
   * Locks the folder if it exists, and checks that it has no record yet. Changes nothing on disk.
   *
   * @throws PodError `in-use` if another run has locked the folder, `bad-config` if the folder has a
   * record.
   */
  constructor(planned: PlannedRun, path: string) {
    this.#planned = planned;
    this.#path = path;
    this.#start = startOf(planned);
    this.#folder = new RunFolder({
      ...{ path, use: 'pod chaos run', now: () => this.#nowMs ?? absoluteMs() },
      onLoss: (why) => void process.stderr.write(`pod: ${oneLine(why)}; the run continues\n`),
    });
    this.#folder.check(this.#start);
    if (planned.ground === 'threads') this.stream = this.#open(this.#folder);
    if (planned.ofProcesses === undefined) return;
    // The folder is unlocked again. In a pod of processes, the master itself locks it. In a pod of
    // containers, the master has another folder, from which the record is copied.
    this.#folder.end();
    this.#folder = undefined;
  }

  /**
   * Records how the run was judged, and ends the record. `text` is the plan as YAML.
   *
   * @throws PodError `io` if something could not be written.
   */
  end(
    text: string,
    seen: Observation,
    outcomes: readonly FaultOutcome[],
    verdicts: readonly Verdict[],
  ): void {
    if (this.#planned.ground === 'sim' && this.#folder !== undefined) {
      const stream = this.#open(this.#folder);
      for (const { ms, fact } of simulatedFacts(this.#planned, seen)) {
        this.#nowMs = ms;
        stream.tell(fact);
      }
      stream.end();
    } else this.stream?.end();
    const { outcome, message } = seen;
    const judged: JudgedRun = {
      ...{ v: eventVersion, ground: this.#planned.ground, outcome, message },
      ...{ faults: outcomes, verdicts },
    };
    this.#write(runFiles.plan, text);
    this.#write(runFiles.verdict, `${jsonText(judged, 2)}\n`);
    const lost = this.#folder?.lost;
    if (lost !== undefined) throw new PodError('io', `output was lost: ${lost}`);
  }

  #open(folder: RunFolder): RunStream {
    const sink: Sink = {
      take: (event: RunEvent) => {
        if (isUnderWay(event)) folder.begin(this.#start);
        folder.take(event);
      },
      end: () => folder.end(),
    };
    const stream = new RunStream([sink]);
    stream.generation = 1;
    return stream;
  }

  #write(name: string, text: string): void {
    try {
      writeOutput(join(this.#path, name), Buffer.from(text));
    } catch (error) {
      const why = messageOf(error);
      throw new PodError('io', `--run ${this.#path}: ${name} could not be written: ${why}`, error);
    }
  }
}

/**
 * Returns what the folder of the record must know about the run. The topology is taken from
 * `facts`, because the slice of a simulation may be larger than any real pod.
 */
function startOf({ options, opened, facts }: PlannedRun): RecordedStart {
  const { topology } = facts;
  const key = { ...keyOf(opened.identity), topology: formatTopology(topology) };
  return recordedStart({ ...options, config: { ...options.config, topology } }, key);
}
