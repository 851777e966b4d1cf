import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import '../../src/testing/vitest.ts';
import { settingKeys } from '../../src/cli/settings/schema.ts';
import { workerPhases } from '../../src/fault/plan.ts';
import type { SeenEvent } from '../../src/fault/seen.ts';
import { flipBit, hang, kill, loseRow, pause, slow } from '../../src/testing/faults.ts';
import { type PodOptions, type PodTest, pod } from '../../src/testing/pod.ts';
import { requireCompiled } from '../cluster/compiled.ts';

beforeAll(requireCompiled);
const folder = mkdtempSync(join(tmpdir(), 'testing-'));
afterAll(() => rmSync(folder, { recursive: true }));

const simulated: PodOptions = {
  ...{ tpus: 4, model: 'mlp', steps: 5, globalBatch: 32, evaluate: 32, ground: 'sim' },
};
const threaded: PodOptions = {
  ...{ tpus: 2, model: 'mlp', steps: 4, globalBatch: 16, evaluate: 16, ground: 'threads' },
};

function planFile(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe('a simulated run', () => {
  test('recovers from any kill, blames its target and matches the run without faults', async () => {
    const place = fc.record({
      tpu: fc.nat(3),
      step: fc.integer({ min: 1, max: 5 }),
      phase: fc.constantFrom(...workerPhases),
    });
    await fc.assert(
      fc.asyncProperty(place, async ({ tpu, ...at }) => {
        const run = await pod(simulated).inject(kill(tpu).at(at)).train();
        expect(run).toMatchFaultFree();
        expect(run).toBlame(tpu);
        expect(run.steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
      }),
      { numRuns: 4 },
    );
  });

  test('tells hooks each step once and in order, and each note', async () => {
    const events: SeenEvent[] = [];
    const steps: number[] = [];
    const run = await pod(simulated)
      .inject(kill(1).at({ step: 3 }))
      .onEvent((event) => events.push(event))
      .onStep(({ step }) => steps.push(step))
      .train();
    expect(steps).toEqual([1, 2, 3, 4, 5]);
    const notes = events.flatMap((event) => (event.kind === 'note' ? [event.note] : []));
    expect(notes).toEqual(run.notes.map(({ note }) => note));
    expect(notes[0]).toMatchObject({ event: 'lost', tpu: 1 });
    const times = events.map(({ ms }) => ms);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });
});

describe('a run in threads', () => {
  test('recovers with the same bits, and the right Cloud TPUs are blamed', async () => {
    const digests: string[] = [];
    const run = await pod(threaded)
      .inject(kill(1).at({ step: 2, phase: 'reduce-scatter', hop: 1 }))
      .onStep(({ digest }) => digests.push(digest))
      .train();
    expect(run).toMatchFaultFree();
    expect(run).toHaveRecovered({ withinMs: 30_000, steps: 0 });
    expect(run).toBlame(1);
    expect(run).not.toBlame(0);
    expect(run.outcome).toBe('done');
    expect(digests).toEqual(run.steps.map(({ digest }) => digest));
    expect(run.digest).toBe(digests.at(-1));
    expect(run.endMs).toBeGreaterThan(run.beginMs);
    const spent = run.steps.map(({ wallMs }) => wallMs).sort((a, b) => a - b);
    const median = spent[Math.floor(spent.length / 2)] ?? 0;
    const share = (median * spent.length) / (run.endMs - run.beginMs);
    expect(run.goodput).toBeCloseTo(Math.min(1, share), 12);
  });

  test('goes on from its own checkpoint if all Cloud TPUs are lost, also in the next run', async () => {
    const checkpoint = join(folder, 'checkpoints');
    // With two Cloud TPUs, the one that is lost last might still give its weights to the first.
    const single = { ...threaded, tpus: 1 };
    const run = await pod({ ...single, checkpoint, every: 2 })
      .inject(loseRow(0).at({ step: 4, phase: 'update' }))
      .expecting({ sometimes: ['checkpoint-recovery'] })
      .train();
    expect(run).toHoldExpectations();
    // On a busy machine the checkpoint of step 2 may not be complete yet. The run then goes back to
    // its start, and three steps run again.
    expect(run).toHaveRecovered({ steps: 3 });
    expect(run).toMatchFaultFree();
    // The first run has saved the checkpoint of its last step in the folder and has released the
    // folder. So the second run may use the folder, and has no step left to train.
    const resumed = await pod({ ...single, checkpoint, resume: true, faultFree: false }).train();
    expect(resumed.outcome).toBe('done');
    expect(resumed.steps).toEqual([]);
  });

  test('without recovery ends as failed, with its error as part of the result', async () => {
    const run = await pod({ ...threaded, recovery: 'none' })
      .inject(kill(1).at({ step: 2 }))
      .expecting({ outcome: 'failed' })
      .train();
    expect(run).toHoldExpectations();
    expect(run).not.toMatchFaultFree();
    expect(run).not.toHaveRecovered();
    expect(run.steps.map(({ step }) => step)).toEqual([1]);
    expect(run.message).toContain('Cloud TPU 1');
  });

  test('ends with the error that a hook throws', async () => {
    const mistake = new Error('the hook found a mistake');
    const steps: number[] = [];
    const trained = pod({ ...threaded, faultFree: false })
      .onStep(({ step }) => {
        steps.push(step);
        if (step === 2) throw mistake;
      })
      .train();
    await expect(trained).rejects.toBe(mistake);
    expect(steps).toEqual([1, 2]);
  });
});

describe('an asynchronous hook', () => {
  const mistake = new Error('the hook found a mistake');

  test('ends the run with the error that it throws, and rejects nothing else', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', note);
    const trained = pod({ ...simulated, faultFree: false })
      .onStep(async () => {
        throw mistake;
      })
      .train();
    await expect(trained).rejects.toBe(mistake);
    await new Promise((done) => setImmediate(done));
    process.off('unhandledRejection', note);
    expect(unhandled).toEqual([]);
  });

  test('that throws early ends a run in threads before its last step', async () => {
    const steps: number[] = [];
    const trained = pod({ ...threaded, steps: 40, faultFree: false })
      .onStep(async ({ step }) => {
        steps.push(step);
        if (step === 2) throw mistake;
      })
      .train();
    await expect(trained).rejects.toBe(mistake);
    expect(steps).toEqual([1, 2]);
  });

  test('has ended when train resolves', async () => {
    const steps: number[] = [];
    await pod({ ...simulated, faultFree: false })
      .onStep(async ({ step }) => {
        for (let turn = 0; turn < 5; turn++) await new Promise((done) => setImmediate(done));
        steps.push(step);
      })
      .train();
    expect(steps).toEqual([1, 2, 3, 4, 5]);
  });
});

describe('the run without faults', () => {
  test('is trained once for all plans whose runs have the same bits', async () => {
    const first = await pod(simulated)
      .inject(kill(1).at({ step: 2 }))
      .train();
    const second = await pod({ ...simulated, recovery: 'replace' })
      .inject(loseRow(0).at({ step: 4 }))
      .train();
    const other = await pod({ ...simulated, seed: 1 })
      .inject(kill(1).at({ step: 2 }))
      .train();
    expect(first.faultFreeSteps).toHaveLength(5);
    expect(second.faultFreeSteps).toBe(first.faultFreeSteps);
    expect(other.faultFreeSteps).not.toEqual(first.faultFreeSteps);
    expect(other).toMatchFaultFree();
  });

  test('is not trained if it is not needed', async () => {
    const run = await pod({ ...simulated, faultFree: false }).train();
    expect(run.faultFreeSteps).toBeUndefined();
    expect(() => expect(run).toMatchFaultFree()).toThrow('expected a run with faultFree: true');
  });
});

describe('a plan file', () => {
  const text = `run: { tpus: 4, model: mlp, steps: 5, globalBatch: 32, evaluate: 32 }
faults:
  - { fault: hang, tpu: 2, at: { step: 2 } }
expect: { culprit: named, recovery: { steps: "<=0" }, sometimes: [quarantine] }
`;

  test('is run together with the faults, settings and expectations in code', async () => {
    const run = await pod({ topology: '3x1', globalBatch: 48, ground: 'sim' })
      .plan(planFile('plan.yaml', text))
      .inject(kill(1).at({ step: 4 }))
      .expecting({ sometimes: ['peer-recovery'] })
      .train();
    expect(run.faults.map(({ fault, blamed }) => [fault.fault, blamed])).toEqual([
      ['kill', 1],
      ['hang', 2],
    ]);
    expect(run.verdicts.map(({ expectation }) => expectation)).toEqual([
      ...['every planned fault is injected', 'outcome: done', 'recovery.steps: <=0'],
      ...['culprit: named', 'sometimes: peer-recovery'],
    ]);
    expect(run).toHoldExpectations();
  });

  test('is named in messages, with line and column, if the mistake is in the file', async () => {
    const path = planFile('wrong.yaml', text);
    const refusal = (plan: PodTest): Promise<unknown> => plan.train().catch(String);
    const ofFault = pod({ topology: '2x1', ground: 'sim' }).plan(path);
    expect(await refusal(ofFault.inject(hang(1).at({ step: 1 })))).toBe(
      `PodError: ${path}:3:25: faults.0.tpu: expected a Cloud TPU from 0 to 1, found 2`,
    );
    expect(await refusal(ofFault.inject(hang(5).at({ step: 1 })))).toBe(
      'PodError: pod(): faults.0.tpu: expected a Cloud TPU from 0 to 1, found 5 (and 1 more)',
    );
    const ofSetting = planFile('setting.yaml', 'run: { model: x, steps: 0 }');
    expect(await refusal(pod({ model: 'mlp' }).plan(ofSetting))).toBe(
      `PodError: run.steps in ${ofSetting}: expected at least 1, found "0"`,
    );
  });
});

/** Gives a value another type, as a test in JavaScript may do. */
function untyped(value: unknown): never {
  return value as never;
}

/** The settings of a run with faults: all settings of `pod train` without those of output. */
const settings = settingKeys.filter(
  (key) => !['log', 'logLevel', 'report', 'run', 'json', 'print'].includes(key),
);

describe('a wrong plan', () => {
  const wrong: readonly (readonly [string, PodTest])[] = [
    [
      'pod(): faults.0.tpu: expected a Cloud TPU from 0 to 3, found 9',
      pod(simulated).inject(kill(9).at({ step: 1 })),
    ],
    [
      'pod(): faults.1.at.step: expected a step of the run, found 6: the run has 5',
      pod(simulated).inject(kill(1).at({ step: 1 }), kill(1).at({ step: 6 })),
    ],
    [
      'pod(): faults.0.factor: ',
      pod(simulated).inject(slow(1, { factor: 0.5 }).at({ step: 1 }).for({ steps: 1 })),
    ],
    [
      'pod(): faults.0.fault: flip-bit: ',
      pod(simulated).inject(flipBit(0, { in: 'hbm' }).at({ step: 1 })),
    ],
    ['pod(): expect.goodput: expected a bound', pod(simulated).expecting({ goodput: 'high' })],
    ['model of pod(): expected one of', pod({ ...simulated, model: 'x' as 'mlp' })],
    ['topology of pod(): ', pod({ topology: '99x99', ground: 'sim' })],
    [
      `tpux of pod(): there is no such setting; expected one of ${settings.join(', ')}`,
      pod({ tpux: 3 } as PodOptions),
    ],
    ['log of pod(): not possible in a run with faults', pod({ log: 'x' } as PodOptions)],
    ['ground of pod(): expected sim, threads', pod({ ...simulated, ground: 'x' as 'sim' })],
    ['none.yaml: expected a fault plan', pod(simulated).plan('none.yaml')],
    ['ground of pod(): expected sim, threads', pod({ ground: untyped(null) })],
    ['ground of pod(): expected sim, threads', pod({ ground: untyped(['sim']) })],
    ['faultFree of pod(): expected true or false, found "yes"', pod({ faultFree: untyped('yes') })],
    ['pod(): expected settings such as { tpus: 4 }, found null', pod(untyped(null))],
    ['pod(): expected settings such as { tpus: 4 }, found "x"', pod(untyped('x'))],
    ['pod(): expected settings such as { tpus: 4 }, found [1]', pod(untyped([1]))],
    ['plan(): expected the path of a plan file, found 3', pod(simulated).plan(untyped(3))],
    ['onStep: expected a function, found 3', pod(simulated).onStep(untyped(3))],
    ['onEvent: expected a function, found null', pod(simulated).onEvent(untyped(null))],
    [
      'pod(): faults.0: expected a fault such as kill(3).at({ step: 10 }), found null',
      pod(simulated).inject(untyped(null)),
    ],
    [
      'pod(): faults.1: expected a fault such as kill(3).at({ step: 10 }), found one without a position; call .at()',
      pod(simulated).inject(kill(1).at({ step: 1 }), untyped(kill(1))),
    ],
    [
      'pod(): faults.0.at: expected a position such as { step: 5 }, found nothing',
      pod(simulated).inject(kill(1).at(untyped(undefined))),
    ],
    [
      'pod(): faults.0.factor: expected a number, found nothing',
      pod(simulated).inject(slow(1, untyped(undefined)).at({ step: 1 })),
    ],
    [
      'pod(): faults.0.for: expected either steps or ms, found {}',
      pod(simulated).inject(pause(1, untyped(null)).at({ step: 1 })),
    ],
  ];

  test.each(wrong)('is refused before anything runs: %s', async (message, plan) => {
    let events = 0;
    const refusal = await plan
      .onEvent(() => events++)
      .train()
      .catch((error: unknown) => error);
    expect(refusal).toMatchObject({ name: 'PodError', exitCode: 2 });
    expect(String(refusal)).toContain(`PodError: ${message}`);
    expect(String(refusal)).not.toContain('\n');
    expect(events).toBe(0);
  });
});
