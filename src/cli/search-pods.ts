import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Case, planOf } from '../fault/case.ts';
import { violationsIn } from '../fault/invariants.ts';
import type { FaultPlan, Ground } from '../fault/plan.ts';
import type { Reference } from '../fault/verdict.ts';
import { messageOf } from '../numerics/error.ts';
import { openPlanned, type PlannedRun, runWithFaults, runWithoutFaults } from './planned-run.ts';
import { type Runner, type Tried, withPlannedIndices } from './search-simulator.ts';

/**
 * Runs cases in real pods, of threads or processes, and checks the invariants. A case is the same
 * run as `pod chaos run` with the plan of the case. Times are real, so a plan that breaks an
 * invariant need not break it again, and plans are not shrunk.
 */
export class PodRunner implements Runner {
  readonly isRepeatable = false;
  readonly #ground: Ground;
  readonly #references = new Map<string, Reference>();

  constructor(ground: 'threads' | 'processes') {
    this.#ground = ground;
  }

  async try(it: Case): Promise<Tried> {
    const folder = mkdtempSync(join(tmpdir(), 'pod-search-'));
    try {
      return await this.#tryIn(folder, planOf(it));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** Runs a plan. Its checkpoints are saved in a folder of their own. */
  async #tryIn(folder: string, plan: FaultPlan): Promise<Tried> {
    const place = 'checkpoint' in plan.run ? { checkpoint: join(folder, 'checkpoints') } : {};
    const planned = await openPlanned(
      {
        plan: { ...plan, run: { ...plan.run, ...place } },
        placeOf: () => 'a drawn plan',
        settingName: (key) => `run.${key} of a drawn plan`,
      },
      this.#ground,
    );
    const reference = await this.#referenceOf(plan, planned);
    const ending = await this.#end(plan, planned);
    const injections = ending.kind === 'ended' ? ending.seen.injections : [];
    const indices = new Set(injections.map(({ index }) => index));
    return {
      plan,
      ending,
      violations: violationsIn(plan, ending, reference),
      injected: plan.faults.filter((_, index) => indices.has(index)),
    };
  }

  async #end(plan: FaultPlan, planned: PlannedRun): Promise<Tried['ending']> {
    try {
      const seen = await runWithFaults(planned, () => undefined);
      return { kind: 'ended', seen: withPlannedIndices(seen, plan, planned) };
    } catch (error) {
      // Only errors before the first step are thrown. No drawn plan may cause one, so the caller
      // reports it as a broken invariant.
      return { kind: 'threw', message: messageOf(error) };
    }
  }

  async #referenceOf(plan: FaultPlan, planned: PlannedRun): Promise<Reference> {
    const key = JSON.stringify(plan.run);
    const known = this.#references.get(key) ?? (await runWithoutFaults(planned));
    this.#references.set(key, known);
    return known;
  }
}
