import { type Logger, pino } from 'pino';
import { keyOf, type RunIdentity } from '../experiment/same-run.ts';
import { logEvent } from '../observe/log.ts';
import { isUnderWay, type RunEvent } from '../run/event.ts';
import type { Sink } from '../run/stream.ts';
import { LogFile } from './log-file.ts';
import type { TrainOptions } from './options.ts';
import { ReportFile, reportText } from './report-file.ts';
import { type RecordedStart, RunFolder } from './run-folder.ts';
import { recordedStart } from './run-settings.ts';

/**
 * The outputs of `pod train` as one sink: the files of `--log`, `--report` and `--run`, and the
 * result on standard output (`--json`). The files are changed only once the run is under way, so a
 * refused run changes no file.
 */
export class TrainOutputs implements Sink {
  readonly #options: TrainOptions;
  readonly #log: LogFile | undefined;
  readonly #logger: Logger | undefined;
  readonly #report: ReportFile | undefined;
  readonly #folder: RunFolder | undefined;
  #start: RecordedStart | undefined;

  /**
   * Changes nothing on disk. `warn` is called with a message of one line when a write to the log
   * fails for the first time, and when a write to the run folder fails for the first time.
   *
   * @throws PodError `in-use` if another run writes to an output, `io` if an output cannot be
   * opened.
   */
  constructor(options: TrainOptions, warn: (line: string) => void) {
    const { log: path, logLevel: level, report, run, checkpoint } = options;
    this.#options = options;
    if (path !== undefined) {
      this.#log = new LogFile({
        path,
        isAppended: checkpoint?.resume === true,
        onLoss: (why) => warn(`${why}; the run continues without its log`),
      });
      this.#logger = pino({ base: { job: 'train', role: 'train' }, level }, this.#log);
    }
    this.#report = report === undefined ? undefined : new ReportFile(report);
    if (run === undefined) return;
    const onLoss = (why: string): void => warn(`${why}; the run continues without its record`);
    this.#folder = new RunFolder({ path: run, use: 'pod train', onLoss });
  }

  /** Checks that the run may write to its folder. Throws the errors of {@link RunFolder.check}. */
  check(identity: RunIdentity): void {
    if (this.#folder === undefined) return;
    this.#start = recordedStart(this.#options, keyOf(identity));
    this.#folder.check(this.#start);
  }

  take(event: RunEvent): void {
    if (isUnderWay(event)) this.#begin();
    if (this.#logger !== undefined) logEvent(this.#logger, event);
    this.#folder?.take(event);
    if (event.kind !== 'finished') return;
    const text = reportText(event.report);
    if (this.#options.json) process.stdout.write(text);
    this.#report?.write(text);
  }

  end(): void {
    this.#report?.close();
    this.#folder?.end();
  }

  /** Messages of one line, one for each output that was not written completely. */
  get lost(): readonly string[] {
    const all = [this.#log?.lost, this.#report?.lost, this.#folder?.lost];
    return all.filter((it) => it !== undefined);
  }

  #begin(): void {
    this.#report?.begin();
    this.#log?.begin();
    if (this.#start !== undefined) this.#folder?.begin(this.#start);
  }
}
