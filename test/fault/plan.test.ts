import { describe, expect, test } from 'vitest';
import { mistakesIn, type RunFacts, refuseMistakes } from '../../src/fault/check.ts';
import { faultKinds } from '../../src/fault/plan.ts';
import { locate, parsePlan } from '../../src/fault/read.ts';
import { planJsonSchema } from '../../src/fault/schema.ts';

const plan = `
run: { tpus: 8, model: mlp, steps: 20 }
faults:
  - fault: kill
    tpu: 3
    at: { step: 10, phase: reduce-scatter, bucket: 0, hop: 2 }
  - { fault: delay, link: "chip(3,1)+x", ms: 50, at: { step: 5 }, for: { steps: 3 } }
  - { fault: partition, groups: [[0, 1, 2], [3]], at: { during: loading, generation: 2 } }
expect:
  weights: bit-identical
  recovery: { steps: "<=1", detection: "<2s" }
  sometimes: [peer-recovery]
`;

const facts: RunFacts = {
  topology: { columns: 4, rows: 2 },
  steps: 20,
  evaluationSteps: 2,
  checkpointEvery: undefined,
  cores: 8,
};

describe('a plan file', () => {
  test('is read as it is written', () => {
    expect(parsePlan(plan, 'plan.yaml')).toEqual({
      run: { tpus: 8, model: 'mlp', steps: 20 },
      faults: [
        { fault: 'kill', tpu: 3, at: { step: 10, phase: 'reduce-scatter', bucket: 0, hop: 2 } },
        { fault: 'delay', link: 'chip(3,1)+x', ms: 50, at: { step: 5 }, for: { steps: 3 } },
        { fault: 'partition', groups: [[0, 1, 2], [3]], at: { during: 'loading', generation: 2 } },
      ],
      expect: {
        weights: 'bit-identical',
        recovery: { steps: '<=1', detection: '<2s' },
        sometimes: ['peer-recovery'],
      },
    });
  });

  test('that is empty has no faults and expects nothing', () => {
    expect(parsePlan('{}', 'plan.yaml')).toEqual({ run: {}, faults: [], expect: {} });
  });

  test.each([
    [
      'faults: [{ fault: kil, tpu: 3, at: { step: 1 } }]',
      /^plan\.yaml:1:19: faults\.0\.fault: .*kil/,
    ],
    [
      'faults:\n  - { fault: kill, at: { step: 1 } }',
      /^plan\.yaml:2:5: faults\.0\.tpu: .*nothing$/,
    ],
    [
      'faults:\n  - fault: kill\n    tpu: 1\n    at: { step: 0 }',
      /^plan\.yaml:4:17: faults\.0\.at\.step: /,
    ],
    ['faults: [{ fault: kill, tpu: -1, at: { step: 1 } }]', /^plan\.yaml:1:30: faults\.0\.tpu: /],
    [
      'faults: [{ fault: kill, tpu: 1, at: { step: 1, phase: update, hop: 2 } }]',
      /faults\.0\.at: expected a phase with buckets and hops/,
    ],
    [
      'faults: [{ fault: pause, tpu: 1, at: { step: 1 }, for: { steps: 1, ms: 2 } }]',
      /faults\.0\.for: expected either steps or ms/,
    ],
    [
      'faults: [{ fault: delay, link: [0, 1], at: { step: 1 } }]',
      /faults\.0\.ms: expected for delay/,
    ],
    [
      'faults: [{ fault: lose, link: [0, 1], ms: 3, at: { step: 1 } }]',
      /faults\.0\.ms: only for delay/,
    ],
    [
      'faults: [{ fault: kill, tpu: 1, at: { step: 1 }, forr: 3 }]',
      /faults\.0: expected no "?forr/,
    ],
    [
      'expect: { recovery: { detection: "<2" } }',
      /expect\.recovery\.detection: expected a bound such as "<2s"/,
    ],
    ['expect: { goodput: ">=0.9s" }', /expect\.goodput: expected a bound/],
    ['faults: [', /^plan\.yaml:1:\d+: expected YAML/],
    ['expekt: {}', /the plan: expected no "?expekt/],
    ['a: 1\na: 2', /^plan\.yaml:2:1: expected YAML/],
    ['', /^plan\.yaml: expected a fault plan, found nothing$/],
    ['# nothing', /^plan\.yaml: expected a fault plan, found nothing$/],
    ['- a', /^plan\.yaml:1:1: the plan: expected a fault plan, found \["a"\]$/],
    [
      'run: {}\n---\nrun: {}',
      /^plan\.yaml:2:1: expected one YAML document, found several, separated by ---$/,
    ],
    ['run: { a: "', /^plan\.yaml:1:\d+: expected YAML, found: .*[^:]$/],
    [
      'faults: [{ fault: slow, tpu: 1, factor: .nan, at: { step: 1 } }]',
      /factor: expected a number, found \.nan$/,
    ],
    [
      'faults: [{ fault: slow, tpu: 1, factor: 1, at: { step: 1 } }]',
      /factor: expected more than 1, found 1$/,
    ],
    [
      'faults: [{ fault: kill, tpu: 1 }]',
      /faults\.0\.at: expected a position such as \{ step: 5 \}, found nothing$/,
    ],
    [
      'run: &r { tpus: 2, x: *r }\nfaults: []',
      /^plan\.yaml:1:23: run\.x: expected text, a number, or true or false, found \{/,
    ],
    [
      'faults: [{ fault: reset, link: chip(3,1)+x, at: { step: 1 } }]',
      /link: expected the name of a link.*found "chip\(3"; .*put the name of the link in quotes$/,
    ],
    [
      'faults: [{ fault: bandwidth, link: [0, 1], bytesPerSecond: 1e-300, at: { step: 1 } }]',
      /bytesPerSecond: expected at least 1, found 1e-300$/,
    ],
  ])('%j is refused with line and column', (text, message) => {
    expect(() => parsePlan(text, 'plan.yaml')).toThrow(
      expect.objectContaining({ code: 'bad-plan', message: expect.stringMatching(message) }),
    );
  });

  test.each([
    ['kill, tpu: 8, at: { step: 1 }', /tpu: expected a Cloud TPU from 0 to 7, found 8/],
    [
      'kill, tpu: 1, at: { step: 21 }',
      /at\.step: expected a step of the run, found 21: the run has 20/,
    ],
    [
      'kill, tpu: 1, at: { step: 3, phase: evaluate }',
      /expected a batch of the evaluation of the run, found 3: the run has 2/,
    ],
    [
      'torn-write, at: { step: 3, phase: checkpoint }',
      /at\.phase: expected a run with checkpoints/,
    ],
    ['lost-rename, at: { step: 3 }', /faults\.0\.fault: expected a run with checkpoints/],
    ['lose-row, row: 2, at: { step: 3 }', /row: expected a row from 0 to 1, found 2/],
    ['lose-column, column: 4, at: { step: 3 }', /column: expected a column from 0 to 3, found 4/],
    [
      'corrupt, link: [0, 2], at: { step: 3 }',
      /expected two neighbours of the torus, found Cloud TPUs 0 and 2/,
    ],
    [
      'corrupt, link: "chip(8,0)+x", at: { step: 3 }',
      /link: expected a link between the 8×4 chips/,
    ],
    ['partition, groups: [[0, 1], [1]], at: { step: 3 }', /found 1 twice/],
    [
      'stuck-cell, tpu: 0, core: 7, row: 1, column: 1, at: { step: 30 }',
      /at\.step: expected a step of the run/,
    ],
  ])('%j is refused for its run', (fault, message) => {
    const text = `faults: [{ fault: ${fault} }]`;
    const mistakes = mistakesIn(parsePlan(text, 'p.yaml'), facts);
    expect(() =>
      refuseMistakes(mistakes, (path) => `p.yaml:${locate(text, path)}: ${path.join('.')}`),
    ).toThrow(message);
    expect(() =>
      refuseMistakes(mistakes, (path) => `p.yaml:${locate(text, path)}: ${path.join('.')}`),
    ).toThrow(/^p\.yaml:1:\d+: faults\.0\./);
  });

  test.each([
    [1, [1, 2, 3, 4, 5, 6, 7], []],
    [3, [3, 6, 7], [1, 2, 4, 5]],
    [9, [7], [1, 6]],
  ])(
    'takes the phase checkpoint only in a step that saves one: every %i',
    (every, right, wrong) => {
      const mistakesAt = (step: number): readonly string[] => {
        const text = `faults: [{ fault: master-kill, at: { step: ${step}, phase: checkpoint } }]`;
        const run = { ...facts, steps: 7, checkpointEvery: every };
        return mistakesIn(parsePlan(text, 'p.yaml'), run).map(({ message }) => message);
      };
      expect(right.map(mistakesAt)).toEqual(right.map(() => []));
      const saved = `the run saves one every ${every} steps and after step 7, its last`;
      expect(wrong.map(mistakesAt)).toEqual(
        wrong.map((step) => [`expected a step with a checkpoint, found ${step}: ${saved}`]),
      );
    },
  );

  test.each([
    ['kill, tpu: 3, at: { step: 1, phase: reduce-scatter, hop: 8 }', 'reduce-scatter', 7],
    ['kill, tpu: 3, at: { step: 1, phase: all-reduce, hop: 999 }', 'all-reduce', 15],
    ['kill, tpu: 3, at: { step: 1, phase: all-gather, hop: 8 }', 'all-gather', 7],
  ])('%j is refused: no such hop on 4x2 Cloud TPUs', (fault, phase, last) => {
    const at = (text: string): readonly string[] =>
      mistakesIn(parsePlan(`faults: [{ fault: ${text} }]`, 'p.yaml'), facts).map(
        (it) => it.message,
      );
    const expected = `expected a hop from 0 to ${last} of ${phase} on 4x2 Cloud TPUs`;
    expect(at(fault)).toEqual([expect.stringMatching(`^${expected}, found \\d+$`)]);
    expect(at(fault.replace(/hop: \d+/, `hop: ${last}`))).toEqual([]);
  });

  test('refuses a bucket that the model does not have, if their number is known', () => {
    const text = 'faults: [{ fault: kill, tpu: 3, at: { step: 1, phase: all-gather, bucket: 2 } }]';
    const messages = (buckets?: number): readonly string[] =>
      mistakesIn(parsePlan(text, 'p.yaml'), { ...facts, ...(buckets && { buckets }) }).map(
        ({ message }) => message,
      );
    expect(messages(1)).toEqual(['expected bucket 0, the only one of this model, found 2']);
    expect(messages(2)).toEqual(['expected a bucket from 0 to 1 of this model, found 2']);
    expect([messages(3), messages()]).toEqual([[], []]);
  });

  test('accepts the wrap-around neighbours of a torus', () => {
    const text = 'faults: [{ fault: corrupt, link: [0, 3], at: { step: 3 } }]';
    expect(mistakesIn(parsePlan(text, 'p.yaml'), facts)).toEqual([]);
  });

  test('has a JSON Schema that names every kind of fault', () => {
    const schema = JSON.stringify(planJsonSchema());
    for (const kind of faultKinds) expect(schema).toContain(`"${kind}"`);
  });
});
