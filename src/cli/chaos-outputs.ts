import { checkOutputs } from './outputs.ts';
import type { PlannedRun } from './planned-run.ts';
import { ReportFile } from './report-file.ts';

/** Paths of the outputs of `pod chaos run`; undefined for an output that is not asked for. */
export interface OutputPaths {
  readonly log?: string;
  readonly html?: string;
}

/**
 * The output files of a run with faults, which the flags `--log` and `--html` name. They are locked
 * before the run begins, so that no other run can write to them, and unlocked when it has ended.
 */
export class ChaosOutputs {
  readonly #files: ReportFile[] = [];

  /**
   * Checks all outputs of the run, and locks the files. `plan` is the path of the fault plan.
   *
   * @throws PodError `bad-flag` if an output cannot be written, or if it would replace the plan, a
   * file of the run or another output; `in-use` if another run writes to one of the files.
   */
  constructor({ settings, options }: PlannedRun, plan: string, { log, html }: OutputPaths) {
    const files = [
      ...(log === undefined ? [] : [{ origin: '--log', path: log }]),
      ...(html === undefined ? [] : [{ origin: '--html', path: html }]),
    ];
    const { run } = options;
    const all = run === undefined ? settings : settings.with('run', run, '--run');
    checkOutputs(all, [{ origin: 'pod chaos run', path: plan }], files);
    try {
      for (const { origin, path } of files) this.#take(new ReportFile(path, origin));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Unlocks the files, and removes those that were made and never written. */
  close(): void {
    for (const file of this.#files) file.close();
  }

  #take(file: ReportFile): void {
    file.take();
    this.#files.push(file);
  }
}
