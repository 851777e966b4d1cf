import type { Command } from 'commander';
import { grounds } from '../fault/plan.ts';
import type { ChaosFlags } from './chaos-run.ts';
import type { SearchFlags } from './chaos-search.ts';
import { refuseRepeats } from './settings/command.ts';

const examples = `
Examples:
  pod chaos run plan.yaml                    runs the plan in threads and judges the run
  pod chaos run plan.yaml --ground processes the same in processes
  pod chaos run plan.yaml --ground containers the same in containers (Docker)
  pod chaos run plan.yaml --ground sim       simulates it, in virtual time
  pod chaos run plan.yaml --html report.html shows the run as a timeline, for a browser
  pod chaos run plan.yaml --run DIR          records the run: pod report DIR
  pod chaos run plan.yaml --json             prints verdict and faults as JSON
  pod chaos search --seeds 1000              simulates random plans, and shrinks those that fail
  pod chaos search --seeds 50 --ground threads --faults 1 --times
                                             breaks real pods, one fault each, and prints a table
  pod chaos heal                             cleans up after runs that were killed
  pod chaos schema > plan.schema.json        the JSON Schema of a plan, for editors

Exit codes: 0 every expectation or invariant holds, 1 one does not, 2 the plan is wrong, others as pod train.
`;

/**
 * `pod chaos`: runs fault plans. The code of its commands is loaded only when a command runs, so
 * that other commands start faster.
 */
export function addChaos(program: Command): void {
  const command = program
    .command('chaos')
    .description('break a run on purpose, as a fault plan says, and judge how it recovers')
    .addHelpText('after', examples);
  const running = command
    .command('run <plan>')
    .description('run a fault plan and judge the run')
    .option('--ground <ground>', `where the plan runs: ${grounds.join(', ')}`, 'threads')
    .option('--json', 'print the verdict as JSON')
    .option('--log <file>', 'with --ground sim: write all events to a file')
    .option('--run <dir>', 'record the run to this folder; pod report shows it')
    .option('--html <file>', 'write the report of the run as a page to this file')
    .addHelpText('after', examples)
    .action(async (path: string, flags: ChaosFlags) => {
      const { runPlan } = await import('./chaos-run.ts');
      await runPlan(path, flags);
    });
  refuseRepeats(running);
  const searching = command
    .command('search')
    .description('simulate random fault plans, check invariants, shrink each plan that breaks one')
    .requiredOption('--seeds <n>', 'number of plans')
    .option('--from <seed>', 'seed of the first plan', '0')
    .option('--out <dir>', 'write the plans that break an invariant to a folder')
    .option('--ground <ground>', `where the plans run: ${grounds.join(', ')}`, 'sim')
    .option('--faults <n>', 'largest number of faults in a plan')
    .option('--first', 'end with the first plan that breaks an invariant')
    .option('--coverage', 'print which fault was injected in which phase')
    .option('--times', 'print how soon faults were noticed and mended, in plans of one fault')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', examples)
    .action(async (flags: SearchFlags) => {
      const { searchPlans } = await import('./chaos-search.ts');
      await searchPlans(flags);
    });
  refuseRepeats(searching);
  command
    .command('heal')
    .description('remove what runs with faults have left that were killed, and lift their faults')
    .addHelpText('after', examples)
    .action(async () => {
      const { healAll } = await import('./chaos-heal.ts');
      await healAll();
    });
  // `pod chaos run` starts this command as a process, the guard. The command is not for people.
  command
    .command('guard <pid> [start]', { hidden: true })
    .action(async (pid: string, start = '') => {
      const { guardRunner } = await import('./chaos-guard.ts');
      await guardRunner({ pid: Number(pid), start });
    });
  command
    .command('schema')
    .description('print the JSON Schema of a fault plan')
    .action(async () => {
      const { planJsonSchema } = await import('../fault/schema.ts');
      process.stdout.write(`${JSON.stringify(planJsonSchema(), undefined, 2)}\n`);
    });
}
