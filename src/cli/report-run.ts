import { join } from 'node:path';
import { isSameFile, targetOf } from '../files/target.ts';
import { writeOutput } from '../files/write.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { jsonText, plainLine, quoteName } from '../numerics/quote.ts';
import { reportPage } from '../observe/report-page.ts';
import { reportLines } from '../observe/report-text.ts';
import { type RunReport, runReport } from '../observe/run-report.ts';
import { runFiles } from '../run/files.ts';
import { type RecordedRun, readRun } from '../run/read.ts';
import { usable } from './outputs.ts';
import { repeatPlan, repeatTraining } from './repeat.ts';
import { screenOf } from './screen.ts';

/** Flags of `pod report`. */
export interface ReportFlags {
  readonly html?: string;
  readonly json?: boolean;
}

/**
 * Shows what happened in a recorded run: as text, or with `--json` as JSON, and with `--html` also
 * as a page.
 *
 * @throws PodError the errors of {@link readRun}, `bad-flag` if the page cannot be written to the
 * file, `io` if writing it fails.
 */
export function showReport(folder: string, { html, json }: ReportFlags): void {
  if (html !== undefined) checkPage(html, folder);
  const report = reportOf(folder);
  if (html !== undefined) writePage(html, report);
  if (html !== undefined && isStandardOutput(html)) return;
  const lines = json
    ? [jsonText(jsonOf(report))]
    : reportLines(report, screenOf(process.stdout).columns);
  process.stdout.write(`${lines.map(plainLine).join('\n')}\n`);
}

/** Reads a run folder and writes its report to a page. Throws the errors of {@link showReport}. */
export function writeReportPage(folder: string, html: string): void {
  writePage(html, reportOf(folder));
}

/**
 * Writes the report of a run folder to a page. The caller deletes the folder afterwards, so the
 * page does not name the folder. The page names `plan` instead, the path of the fault plan. Throws
 * the errors of {@link showReport}.
 */
export function writePageOfPlan(folder: string, html: string, plan: string): void {
  writePage(html, reportOf(folder, plan, plan), 'fault plan');
}

/**
 * Reads a run folder and returns its report. `name` is the name of the record in the report. `plan`
 * is the path of the fault plan in the command that repeats the run.
 */
function reportOf(
  folder: string,
  name: string = folder,
  plan: string = join(folder, runFiles.plan),
): RunReport {
  const run = readRun(folder);
  return runReport(name, run, repeatOf(plan, run));
}

function repeatOf(plan: string, { settings, judged }: RecordedRun): string {
  return judged === undefined ? repeatTraining(settings) : repeatPlan(plan, judged.ground);
}

/**
 * Refuses a page that cannot be written, or that would replace a file of the run folder.
 *
 * @throws PodError `bad-flag`.
 */
function checkPage(path: string, folder: string): void {
  const target = usable('--html', path);
  const own = Object.values(runFiles).map((name) => targetOf(join(folder, name)));
  if (!own.some((it) => it.kind !== 'refused' && isSameFile(it, target))) return;
  const what = 'a file that is not part of the run folder';
  throw new PodError('bad-flag', `--html: expected ${what}, found ${quoteName(path)}`);
}

function isStandardOutput(path: string): boolean {
  const target = targetOf(path);
  return target.kind === 'descriptor' && target.descriptor === 1;
}

function writePage(path: string, report: RunReport, what = 'run folder'): void {
  try {
    writeOutput(path, Buffer.from(reportPage(report, what)));
  } catch (error) {
    throw new PodError('io', `--html ${path}: could not be written: ${messageOf(error)}`, error);
  }
  if (!isStandardOutput(path)) process.stderr.write(`${plainLine(`wrote ${path}`)}\n`);
}

/** Returns the report as `--json` prints it. Times are in ms since the first event of the run. */
function jsonOf({ name, run, timeline, figures, repeat }: RunReport): unknown {
  const steps = timeline.steps.map(({ tpuPhaseMs: _, ...step }) => step);
  const { ground, verdicts, faults } = run.judged ?? {};
  return { name, ground, figures, verdicts, faults, ...timeline, steps, repeat: [repeat] };
}
