import type { TrainOptions } from '../../src/cli/options.ts';
import { ReportFile, reportText } from '../../src/cli/report-file.ts';
import { RunFolder } from '../../src/cli/run-folder.ts';
import { recordedStart } from '../../src/cli/run-settings.ts';
import type { RunKey } from '../../src/experiment/same-run.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { RunEvent } from '../../src/run/event.ts';
import type { Sink } from '../../src/run/stream.ts';

/**
 * The files that a master writes about a run: the report file (`--report`) and the run folder
 * (`--run`). Each event of the run is written to the run folder. At the event `finished` the report
 * file is written too.
 */
export class RunOutputs implements Sink {
  readonly #options: TrainOptions;
  readonly #report: ReportFile | undefined;
  readonly #folder: RunFolder | undefined;

  /**
   * The constructor changes nothing on disk. `warn` is called when a write to the run folder fails
   * for the first time.
   *
   * @throws PodError `in-use` if another run writes to the report file or the run folder, `io` if
   *   one of them cannot be opened.
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
 * Returns a sink that reports lost outputs at the event `finished`. If an output could not be
 * written, calls `refuse` with an error, which `refuse` logs. The last line of the log must be the
 * summary of the run, which the log's own sink writes. So this sink must stand before that sink in
 * the list of sinks.
 */
export function lossSink(outputs: RunOutputs, refuse: (error: PodError) => void): Sink {
  return {
    take({ kind }) {
      if (kind !== 'finished' || outputs.lost === undefined) return;
      refuse(new PodError('io', `output was lost: ${outputs.lost}`));
    },
  };
}
