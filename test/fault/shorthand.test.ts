import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { collectivePhases, type Fault } from '../../src/fault/plan.ts';
import { parseFault } from '../../src/fault/shorthand.ts';

describe('the short form of a fault', () => {
  test('has the kind, the target and the position of the fault', () => {
    const kind = fc.constantFrom('kill', 'exit', 'throw', 'out-of-memory', 'hang');
    const number = fc.nat(999);
    const numbers = fc.tuple(
      number,
      number.map((it) => it + 1),
      number,
      number,
    );
    fc.assert(
      fc.property(kind, fc.constantFrom(...collectivePhases), numbers, (fault, phase, them) => {
        const [tpu, step, bucket, hop] = them;
        const start = { fault, tpu };
        const whole = { ...start, at: { step, phase, bucket, hop } };
        const text = `${fault}:${tpu}@${step}`;
        expect(parseFault(text, '')).toEqual({ ...start, at: { step } });
        expect(parseFault(`${text}/${phase}`, '')).toEqual({ ...start, at: { step, phase } });
        expect(parseFault(`${text}/${phase}/${bucket}/${hop}`, '')).toEqual(whole);
      }),
    );
  });

  test.each([
    ['hang:1@loading', { fault: 'hang', tpu: 1, at: { during: 'loading' } }],
    ['hang:1@loading/2', { fault: 'hang', tpu: 1, at: { during: 'loading', generation: 2 } }],
    [
      'slow:6,factor=2.5,for=4steps@8',
      { fault: 'slow', tpu: 6, factor: 2.5, for: { steps: 4 }, at: { step: 8 } },
    ],
    ['pause:6,for=500ms@8', { fault: 'pause', tpu: 6, for: { ms: 500 }, at: { step: 8 } }],
    ['clock-jump:0,ms=-5@1', { fault: 'clock-jump', tpu: 0, ms: -5, at: { step: 1 } }],
    ['flip-bit:0,in=hbm@1', { fault: 'flip-bit', tpu: 0, in: 'hbm', at: { step: 1 } }],
    ['disk-full@1/checkpoint', { fault: 'disk-full', at: { step: 1, phase: 'checkpoint' } }],
    ['lose-row:2@1', { fault: 'lose-row', row: 2, at: { step: 1 } }],
    ['lose-column:2@1', { fault: 'lose-column', column: 2, at: { step: 1 } }],
    ['lose:3-7,both=true@1', { fault: 'lose', link: [3, 7], both: true, at: { step: 1 } }],
    [
      'delay:chip(3,1)+x,ms=2@1/update',
      { fault: 'delay', link: 'chip(3,1)+x', ms: 2, at: { step: 1, phase: 'update' } },
    ],
  ])('%s', (text, fault) => {
    expect(parseFault(text, '--fault')).toEqual(fault);
  });

  test.each([
    ['', 'bad-flag', '--fault: expected KIND[:TARGET]'],
    ['kill@1', 'bad-plan', 'faults.0.tpu: expected a number, found nothing'],
    ['@1', 'bad-flag', 'found "@1"'],
    ['kill', 'bad-flag', 'found "kill"'],
    ['kill:3', 'bad-flag', 'found "kill:3"'],
    ['kill:3@', 'bad-flag', 'found "kill:3@"'],
    ['kill:x@1', 'bad-plan', '--fault: "kill:x@1": faults.0.tpu: expected a number'],
    ['kill:3@0', 'bad-plan', 'faults.0.at.step'],
    ['kill:3@x', 'bad-plan', 'faults.0.at'],
    ['kill:3@1/reduce', 'bad-plan', 'faults.0.at.phase: expected infeed, compute'],
    ['nope:3@1', 'bad-plan', 'expected a known kind of fault'],
    ['kill:3,factor=2@1', 'bad-plan', 'expected no "factor"'],
    ['slow:3@1', 'bad-plan', 'faults.0.factor'],
    ['pause:3,for=4@1', 'bad-plan', 'faults.0.for'],
    ['kill:1@2/all-reduce/0/1/5', 'bad-flag', 'expected STEP[/PHASE[/BUCKET[/HOP]]] after @'],
    ['hang:1@loading/2/3', 'bad-flag', 'expected MEMBERSHIP-PHASE[/GENERATION] after @'],
    ['slow:1,factor=2,factor=3@2', 'bad-flag', 'expected "factor" once, found "slow:1,'],
    ['kill:1,tpu=2@2', 'bad-flag', 'expected "tpu" once'],
    ['kill:1,fault=hang@2', 'bad-flag', 'expected "fault" once'],
    ['kill:1,at=3@2', 'bad-flag', 'expected "at" once'],
  ])('%s is refused', (text, code, message) => {
    expect(() => parseFault(text, '--fault')).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });

  test('is refused in one line, whatever the text', () => {
    const nearly = fc.stringMatching(
      /^(kill|slow|lose|nope)(:[-\d]{0,2})?(,[a-z]+=?\d?)?@[a-z/\d]*$/,
    );
    const text = fc.oneof(fc.string({ unit: 'binary' }), nearly);
    fc.assert(
      fc.property(text, (it) => {
        const found = attempt(it);
        if ('fault' in found) return;
        expect(found).toMatchObject({ name: 'PodError' });
        expect(found.message).toMatch(/^--fault: [^\n]*$/);
      }),
    );
  });
});

function attempt(text: string): Fault | Error {
  try {
    return parseFault(text, '--fault');
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}
