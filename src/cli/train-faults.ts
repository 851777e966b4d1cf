import type { OpenedRun } from '../experiment/open-run.ts';
import type { Fault } from '../fault/plan.ts';
import { type Scheduled, scheduleOf } from '../fault/schedule.ts';
import { parseFault } from '../fault/shorthand.ts';
import { at } from '../numerics/assert.ts';
import type { TrainOptions } from './options.ts';
import { factsOf, refuseFaults, withBuckets } from './planned-run.ts';

/** The faults that the flags `--fault` of a command line ask for. */
export class TrainFaults {
  readonly #texts: readonly string[];
  readonly #schedule: readonly Scheduled[];
  readonly #injected: Set<number> = new Set();

  /**
   * Parses and checks the flags. `texts` are their values.
   *
   * @throws PodError `bad-flag` or `bad-plan` naming the flag that is wrong.
   */
  constructor(texts: readonly string[], options: TrainOptions, opened: OpenedRun) {
    const { recovery } = options.config;
    const faults = texts.map((text) => parseFault(text, '--fault'));
    const plan = { run: { recovery }, faults, expect: {} };
    const facts = withBuckets(factsOf(options, opened), faults, { options, opened });
    refuseFaults(plan, facts, 'threads', ([, index = 0, ...rest]) =>
      [`--fault ${texts[Number(index)]}`, ...rest].join(rest.length === 0 ? '' : ': '),
    );
    this.#texts = texts;
    this.#schedule = scheduleOf(plan, facts.topology, facts.steps);
  }

  /** The faults to inject. A lost row or column is a `kill` of each Cloud TPU. */
  get faults(): readonly Fault[] {
    return this.#schedule.map(({ fault }) => fault);
  }

  /**
   * Records that the fault with the given index in {@link faults} was injected. Returns the value
   * of the flag that asked for the fault. If another fault of the same flag was injected before,
   * returns undefined: a lost row has a fault for each Cloud TPU.
   */
  inject(index: number): string | undefined {
    const { planned } = at(this.#schedule, index);
    const isFirst = ![...this.#injected].some((it) => at(this.#schedule, it).planned === planned);
    this.#injected.add(index);
    return isFirst ? at(this.#texts, planned ?? 0) : undefined;
  }

  /** Values of the flags whose fault was not injected, or was injected only in part. */
  get missed(): readonly string[] {
    const missed = this.#schedule.filter((_, index) => !this.#injected.has(index));
    return [...new Set(missed.map((it) => this.#textOf(it)))];
  }

  #textOf({ planned }: Scheduled): string {
    return at(this.#texts, planned ?? 0);
  }
}
