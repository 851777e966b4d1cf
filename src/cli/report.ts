import type { Command } from 'commander';
import type { ReportFlags } from './report-run.ts';
import { refuseRepeats } from './settings/command.ts';

const examples = `
Examples:
  pod train --recovery replace --run DIR      records a run
  pod chaos run plan.yaml --run DIR           records the run of a fault plan, with its verdict
  pod report DIR                              what happened, as text
  pod report DIR --html report.html           the same as text and as a page for a browser
  pod report DIR --json                       the same as JSON, for programs

The page is one file without scripts, and it needs no network. The run may still go on.

Exit codes: 0 the report was made, 2 the folder has no record or a damaged one, 5 a file could not
be read or written.
`;

/** `pod report`: shows what happened in a recorded run. Other commands do not load its code. */
export function addReport(program: Command): void {
  const command = program
    .command('report <dir>')
    .description('show what happened in a run that --run has recorded: a timeline and its figures')
    .option('--html <file>', 'write the report as a page to this file too')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', examples)
    .action(async (folder: string, flags: ReportFlags) => {
      const { showReport } = await import('./report-run.ts');
      showReport(folder, flags);
    });
  refuseRepeats(command);
}
