import { faultFreeRun } from '../cli/fault-free.ts';
import { planInFile } from '../cli/plan-file.ts';
import { groundOf, type NamedPlan, openPlanned, runWithFaults } from '../cli/planned-run.ts';
import { isSettingKey, schema } from '../cli/settings/schema.ts';
import type { Expectations, FaultPlan, Ground } from '../fault/plan.ts';
import { checkPlan } from '../fault/read.ts';
import type { SeenEvent, StepSeen } from '../fault/seen.ts';
import type { PlacedFault } from './faults.ts';
import { checkGiven, given } from './given.ts';
import { type Hook, Hooks } from './hooks.ts';
import { PodRun } from './pod-run.ts';
import type { RunSettings } from './settings.ts';

/** Options of {@link pod}: the settings of the run, and how it is tested. */
export interface PodOptions extends RunSettings {
  /**
   * Kind of pod that trains the run: `threads` of this process, `processes` or `containers` of this
   * machine, or `sim`, a simulation in virtual time. Default: `threads`.
   */
  readonly ground?: Ground;
  /**
   * True if the same run without faults is trained too, to compare with. `toMatchFaultFree` needs
   * it and fails without it. Default: true.
   */
  readonly faultFree?: boolean;
}

/** The parts of a {@link PodTest}. */
interface Parts {
  readonly options: PodOptions;
  readonly faults: readonly PlacedFault[];
  readonly file: string | undefined;
  readonly expect: Expectations;
  readonly hooks: readonly Hook[];
}

/**
 * Describes a run on a pod. By default the pod replaces a lost Cloud TPU (`recovery: 'replace'`).
 * All other settings have the defaults of `pod train`.
 */
export function pod(options: PodOptions = {}): PodTest {
  return new PodTest({ options, faults: [], file: undefined, expect: {}, hooks: [] });
}

/**
 * The description of a run on a pod, with the faults to inject. A description never changes.
 * `train` trains the run; every other method returns a new description.
 */
export class PodTest {
  readonly #parts: Parts;

  /** Use {@link pod} instead. */
  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Adds faults, such as `kill(3).at({ step: 10 })`. */
  inject(...faults: readonly PlacedFault[]): PodTest {
    return this.#with({ faults: [...this.#parts.faults, ...faults] });
  }

  /**
   * Adds the settings, faults and expectations of the plan file at `path`, which is relative to the
   * working directory. Settings and expectations that are given in code override those of the file.
   */
  plan(path: string): PodTest {
    return this.#with({ file: path });
  }

  /** Adds expectations, such as `{ recovery: { steps: '<=1' } }`, to the verdict of the run. */
  expecting(expect: Expectations): PodTest {
    return this.#with({ expect: { ...this.#parts.expect, ...expect } });
  }

  /**
   * Calls `hook` with each event of the run: in a pod of threads at once, in a pod of processes
   * or containers within about 100 ms, in a simulation after the end of the run. If `hook` throws
   * an error, the run ends and `train` rejects with that error.
   *
   * `hook` may be asynchronous. The run goes on meanwhile, and `train` waits for `hook` at its end.
   * If its promise rejects, the run ends with the next event.
   */
  onEvent(hook: (event: SeenEvent) => unknown): PodTest {
    return this.#with({ hooks: [...this.#parts.hooks, { method: 'onEvent', call: hook }] });
  }

  /** Calls `hook` with each committed step of the run. The rules are those of {@link onEvent}. */
  onStep(hook: (step: StepSeen) => unknown): PodTest {
    return this.#with({ hooks: [...this.#parts.hooks, { method: 'onStep', call: hook }] });
  }

  /**
   * Trains the run twice: first without faults, then with its faults. Skips the run without
   * faults if `faultFree` is false, or if this process has trained that run before.
   *
   * Returns the result of the run with faults. If an error ends this run after its first step,
   * `outcome` of the result is `failed`.
   *
   * @throws PodError before anything runs, if a setting or a fault is wrong, or is not possible on
   * this kind of pod. The message is one line that names the wrong value.
   * @throws PodError if the run fails before its first step.
   */
  async train(): Promise<PodRun> {
    const { options, faults, file } = this.#parts;
    checkGiven(options, faults, file);
    const hooks = new Hooks(this.#parts.hooks);
    const { faultFree = true, ground: name = 'threads' } = options;
    const ground = groundOf(name, settingName('ground'));
    const planned = await openPlanned(namedPlan(this.#parts), ground);
    const undisturbed = faultFree ? await faultFreeRun(planned) : undefined;
    const seen = await runWithFaults(planned, (event) => hooks.tell(event));
    await hooks.settled();
    const { plan, facts } = planned;
    return new PodRun({ ground, plan, topology: facts.topology }, seen, undisturbed);
  }

  #with(parts: Partial<Parts>): PodTest {
    return new PodTest({ ...this.#parts, ...parts });
  }
}

/** Returns the plan of a test: what the test gives in code, merged with its plan file if any. */
function namedPlan({ options, faults, file, expect }: Parts): NamedPlan {
  const { ground: _, faultFree: __, ...settings } = options;
  const inCode = checkPlan(
    { run: given(settings), faults: faults.map(({ fault }) => fault), expect },
    () => place,
  );
  const named: NamedPlan = { plan: inCode, placeOf, settingName };
  return file === undefined ? named : merged(named, planInFile(file));
}

/** Name, in messages, of the place of the values that a test gives in code. */
const place = 'pod()';

function placeOf(path: readonly (string | number)[]): string {
  return `${place}: ${path.join('.')}`;
}

function settingName(key: string): string {
  return `${key} of ${place}`;
}

/**
 * Returns the plan in code and the plan of a file as one plan. Settings and expectations in code
 * override those of the file. The faults in code come first.
 */
function merged({ plan: inCode }: NamedPlan, file: NamedPlan): NamedPlan {
  const inFile = file.plan;
  const count = inCode.faults.length;
  return {
    plan: {
      ...inFile,
      run: { ...withoutOverridden(inFile.run, inCode.run), ...inCode.run },
      faults: [...inCode.faults, ...inFile.faults],
      expect: { ...inFile.expect, ...inCode.expect },
    },
    placeOf(path) {
      const [part = '', name = '', ...rest] = path;
      if (part === 'faults') {
        const index = Number(name) - count;
        return index < 0 ? placeOf(path) : file.placeOf([part, index, ...rest]);
      }
      return Object.hasOwn(inCode.expect, name) ? placeOf(path) : file.placeOf(path);
    },
    settingName: (key) =>
      Object.hasOwn(inCode.run, key) ? settingName(key) : file.settingName(key),
  };
}

/**
 * Returns the settings of a file that the settings in code do not override. A setting overrides all
 * settings of the same quantity. For example `tpus` overrides `topology` too, because both give the
 * size of the slice.
 */
function withoutOverridden(ofFile: FaultPlan['run'], inCode: FaultPlan['run']): FaultPlan['run'] {
  const groupOf = (key: string): string => {
    const group = isSettingKey(key) ? schema[key].group : 'own';
    return group === 'own' ? key : group;
  };
  const groups = Object.keys(inCode).map(groupOf);
  return Object.fromEntries(
    Object.entries(ofFile).filter(([key]) => !groups.includes(groupOf(key))),
  );
}
