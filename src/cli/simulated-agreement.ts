import type { SimulatedOutcome } from '../../cluster/simulated/run.ts';
import { evaluateProgram, trainProgram } from '../experiment/program-index.ts';
import type { CommitSeen } from '../fault/verdict.ts';
import type { FromWorker } from '../pod/messages.ts';

type StepDone = FromWorker & { readonly kind: 'step-done' };

/**
 * Returns the steps that a simulated run committed although not every Cloud TPU had reported the
 * committed digest of the weights. After them come such batches of the evaluation. Steps and
 * batches are counted from 1. The reports are read from the events of the simulation, not from the
 * state of the master, so a defect of the master cannot hide them.
 */
export function disagreementsIn(
  { events, evaluation }: SimulatedOutcome,
  tpus: number,
): readonly number[] {
  const reports = new Reports();
  const steps: number[] = [];
  for (const event of events) {
    if (event.event === 'reported' && event.report.kind === 'message') {
      const { message } = event.report;
      if (message.kind === 'step-done') reports.take(message);
    }
    if (event.event !== 'committed') continue;
    if (!reports.agree(trainProgram, event.commit, tpus)) steps.push(event.commit.step);
  }
  const batches = evaluation.filter((it) => !reports.agree(evaluateProgram, it, tpus));
  return [...steps, ...batches.map(({ step }) => step)];
}

/** The newest report of each Cloud TPU on each step of each program. */
class Reports {
  readonly #newest = new Map<string, Map<number, StepDone>>();

  take(report: StepDone): void {
    const key = `${report.program} ${report.step}`;
    const ofStep = this.#newest.get(key) ?? new Map<number, StepDone>();
    const before = ofStep.get(report.tpu);
    // A report of an older generation may arrive late. It is ignored, as the master ignores it.
    if (before !== undefined && before.generation > report.generation) return;
    ofStep.set(report.tpu, report);
    this.#newest.set(key, ofStep);
  }

  /** True if all Cloud TPUs have reported the digest with which a step was committed. */
  agree(program: number, { step, digest }: CommitSeen, tpus: number): boolean {
    const reports = [...(this.#newest.get(`${program} ${step - 1}`)?.values() ?? [])];
    return reports.length === tpus && reports.every((it) => it.digest === digest);
  }
}
