import type { TrainOptions } from '../../src/cli/options.ts';
import { ReportFile, reportText } from '../../src/cli/report-file.ts';
import { RunFolder } from '../../src/cli/run-folder.ts';
import { recordedStart } from '../../src/cli/run-settings.ts';
import type { RunKey } from '../../src/experiment/same-run.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { RunEvent } from '../../src/run/event.ts';
import type { Sink } from '../../src/run/stream.ts';

/**
 * The outputs of a run that a master leads: the report file (`--report`) and the run folder
 * (`--run`). As a sink, this class writes each event to the run folder. At the event `finished` it
 * also writes the report file.
 */
export class RunOutputs implements Sink {
  readonly #options: TrainOptions;
  readonly #report: ReportFile | undefined;
  readonly #folder: RunFolder | undefined;

  /**
   * Changes nothing on disk. `warn` is called once, at the first time that a write to the run
   * folder fails.
   *
   * @throws PodError `in-use` if another run writes to an output, `io` if an output cannot be
   * opened.
   */
  constructor(options: TrainOptions, warn: (why: string) => void) {
    const { report, run } = options;
    this.#options = options;
    this.#report = report === undefined ? undefined : new ReportFile(report);
    if (run === undefined) return;
    const onLoss = (why: string): void => warn(`${why}; the run continues without its record`);
    this.#folder = new RunFolder({ path: run, use: 'a master', onLoss });
  }

  /** Locks the file of the report. Throws the errors of {@link ReportFile.begin}. */
  begin(): void {
    this.#report?.begin();
  }

  /** Begins to write to the run folder. Throws the errors of {@link RunFolder.begin}. */
  record(key: RunKey, isContinued: boolean): void {
    this.#folder?.begin(recordedStart(this.#options, key, isContinued));
  }

  take(event: RunEvent): void {
    this.#folder?.take(event);
    if (event.kind !== 'finished') return;
    this.#report?.write(reportText(event.report));
  }

  end(): void {
    this.#folder?.end();
    this.#report?.close();
  }

  /** Describes, in one line, the outputs that could not be written; undefined if there are none. */
  get lost(): string | undefined {
    const lost = [this.#report?.lost, this.#folder?.lost].filter((it) => it !== undefined);
    return lost.length === 0 ? undefined : lost.join('; ');
  }
}

/**
 * Returns a sink that acts only at the event `finished`. If an output could not be written, the
 * sink calls `refuse` with an error, and `refuse` logs the error. In the list of sinks, this sink
 * must stand before the sink of the log: that sink logs the summary of the run, which must be the
 * last line of the log.
 */
export function lossSink(outputs: RunOutputs, refuse: (error: PodError) => void): Sink {
  return {
    take({ kind }) {
      if (kind !== 'finished' || outputs.lost === undefined) return;
      refuse(new PodError('io', `output was lost: ${outputs.lost}`));
    },
  };
}
