import { join } from 'node:path';
import { absoluteMs } from '../../cluster/runtime/fault-file.ts';
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
import { MadeFolder } from './made-folder.ts';
import type { PlannedRun } from './planned-run.ts';
import { ReportFile } from './report-file.ts';
import { type RecordedStart, RunFolder } from './run-folder.ts';
import { recordedStart } from './run-settings.ts';
import { mergeSettings } from './settings/merge.ts';
import { sourceOfFlags } from './settings/source.ts';
import { simulatedFacts } from './simulated-record.ts';

/**
 * Returns a copy of a planned run that is to be recorded in `folder`. Changes nothing on disk.
 *
 * @throws PodError `bad-flag` if this is no name of a folder.
 */
export function recordedTo(planned: PlannedRun, folder: string): PlannedRun {
  mergeSettings('train', [sourceOfFlags({ run: folder })]);
  const { options, ofProcesses } = planned;
  return {
    ...planned,
    options: { ...options, run: folder },
    ofProcesses: ofProcesses?.with('run', folder, '--run'),
  };
}

/**
 * The record, in a folder, of a run with the faults of a plan. The folder is made and locked before
 * the run begins. The events of a pod of threads are
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
  readonly #made: MadeFolder;
  /**
   * The file of the plan, empty and locked until the run has ended. While it is locked, no other
   * run of `pod chaos run` takes the folder. The folder itself has another lock, which in a pod of
   * processes belongs to the master.
   */
  #plan: ReportFile | undefined;
  /** Number of events that were told here; undefined if a master records them. */
  #events: number | undefined;
  /** Receiver of the events of a pod of threads; undefined for other kinds of pods. */
  readonly stream: RunStream | undefined;

  /**
   * Makes the folder if it does not exist, locks it, and checks that it has no record yet.
   *
   * @throws PodError `bad-flag` if the folder cannot be made or written, `in-use` if another run
   * has locked it, `bad-config` if it has a record, or files with the names of one.
   */
  constructor(planned: PlannedRun, path: string) {
    this.#planned = planned;
    this.#path = path;
    this.#start = startOf(planned);
    this.#made = new MadeFolder('--run', path);
    try {
      this.stream = this.#take(path);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Locks the folder and checks it. Returns the receiver of the events of a pod of threads. */
  #take(path: string): RunStream | undefined {
    this.#plan = new ReportFile(join(path, runFiles.plan), '--run');
    this.#plan.take();
    this.#folder = new RunFolder({
      ...{ path, use: 'pod chaos run', now: () => this.#nowMs ?? absoluteMs() },
      onLoss: (why) => void process.stderr.write(`pod: ${oneLine(why)}; the run continues\n`),
    });
    this.#folder.check(this.#start);
    if (this.#planned.ground === 'threads') return this.#open(this.#folder);
    if (this.#planned.ofProcesses === undefined) return undefined;
    // The folder is unlocked again. In a pod of processes, the master itself locks it. In a pod of
    // containers, the master has another folder, from which the record is copied.
    this.#folder.end();
    this.#folder = undefined;
    return undefined;
  }

  /** Unlocks the folder. Removes the folder if it was made here and nothing was recorded. */
  close(): void {
    this.#folder?.end();
    this.#plan?.close();
    this.#made.leave();
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
      ...(this.#events !== undefined && { events: this.#events }),
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
        this.#events = event.n + 1;
        const virtualMs = this.#nowMs;
        // To begin the folder takes time, and the time of the event is that before it.
        this.#nowMs ??= absoluteMs();
        if (isUnderWay(event)) folder.begin(this.#start);
        folder.take(event);
        this.#nowMs = virtualMs;
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
