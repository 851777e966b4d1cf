import { evaluateProgram } from '../experiment/program-index.ts';
import type { Fault, Position } from '../fault/plan.ts';
import { oneLine } from '../numerics/quote.ts';
import type { Note } from '../pod/master/action.ts';
import type { RecordedEvent } from '../run/event.ts';
import { bytes } from './format.ts';
import { share, time } from './shown.ts';

/** Kind of an incident. */
export type IncidentKind =
  | 'fault'
  | 'lost'
  | 'suspected'
  | 'quarantined'
  | 'replaced'
  | 'adopted'
  | 'restored'
  | 'rolled-back'
  | 'resumed'
  | 'straggler'
  | 'checkpoint'
  | 'checkpoint-failed'
  | 'evaluated'
  | 'master'
  | 'warning'
  | 'stopped'
  | 'failed'
  | 'finished';

/** Something that happened at one time of a run. */
export interface Incident {
  /** Time since the first event of the run, in ms. */
  readonly ms: number;
  readonly kind: IncidentKind;
  /** Number of the Cloud TPU that the incident concerns; null if it concerns the whole slice. */
  readonly tpu: number | null;
  /** Number of the step in which the incident happened, from 1; null if unknown. */
  readonly step: number | null;
  /** What happened, in words, on one line. */
  readonly text: string;
}

/** Largest length of the text of an incident, in characters. */
const textMax = 240;

/** Returns the incident that an event tells of; undefined if the event is no incident. */
export function incidentOf(event: RecordedEvent, ms: number): Incident | undefined {
  const of = (
    kind: IncidentKind,
    text: string,
    tpu: number | null = null,
    step: number | null = null,
  ): Incident => ({ ms, kind, tpu, step, text: oneLine(text, textMax) });
  switch (event.kind) {
    case 'note':
      return of(event.note.event, event.note.cause, event.note.tpu, stepOf(event.note));
    case 'straggler': {
      const { tpu, ownMs, othersMs, inARow, step } = event;
      const times = `${time(ownMs)} of own work, the others ${time(othersMs)}`;
      return of('straggler', `the slowest in ${inARow} steps: ${times}`, tpu, step);
    }
    case 'checkpoint': {
      const size = `${bytes(event.bytes)} in ${time(event.wallMs)}`;
      return of('checkpoint', `saved ${event.name}: ${size}`, null, event.step);
    }
    case 'checkpoint-failed':
      return of('checkpoint-failed', `not saved: ${event.reason}`, null, event.step);
    case 'checkpoint-refused':
      return of('checkpoint-failed', `refused ${event.name}: ${event.reason}`);
    case 'evaluated': {
      const text = `${share(event.accuracy)} of ${event.samples} held-out images are right`;
      return of('evaluated', text, null, event.step);
    }
    case 'pod':
      return event.level === 'warn' ? of('warning', textOfPod(event), tpuIn(event)) : undefined;
    case 'stopped':
      return of('stopped', `after step ${event.step} of ${event.steps}`, null, event.step);
    case 'failed':
      return of('failed', [event.code, event.message].filter((it) => it !== null).join(': '));
    case 'finished':
      return of('finished', `all ${event.report.steps} steps`);
    case 'started':
    case 'warm-started':
    case 'resumed':
    case 'ready':
    case 'step':
    case 'evaluating':
      return undefined;
  }
}

/** Returns the incident of an injected fault. `text` names the fault and its position. */
export function incidentOfFault(fault: Fault, ms: number): Incident {
  const tpu = 'tpu' in fault ? fault.tpu : null;
  const step = 'step' in fault.at && fault.at.phase !== 'evaluate' ? fault.at.step : null;
  const text = oneLine(`${fault.fault}${parametersOf(fault)}: ${positionOf(fault.at)}`, textMax);
  return { ms, kind: 'fault', tpu, step, text };
}

/** Returns the position of a fault in words: `step 5, reduce-scatter, bucket 0, hop 2`. */
export function positionOf(at: Position): string {
  return Object.entries(at)
    .map(([key, value]) => {
      if (key === 'phase') return String(value);
      if (key === 'afterMs') return `after ${time(Number(value))}`;
      return `${key} ${value}`;
    })
    .join(', ');
}

function parametersOf({ fault: _, at: __, ...parameters }: Fault): string {
  const shown = Object.entries(parameters).filter(([key]) => key !== 'tpu');
  if (shown.length === 0) return '';
  return ` (${shown.map(([key, value]) => `${key} ${JSON.stringify(value)}`).join(', ')})`;
}

/** Returns the number of the step of a note; null for a batch of the evaluation. */
function stepOf({ program, step }: Note): number | null {
  return step === null || program === evaluateProgram ? null : step + 1;
}

function textOfPod({ msg, fields }: Extract<RecordedEvent, { readonly kind: 'pod' }>): string {
  const { cause, reason } = fields;
  const why = [cause, reason].find((it) => typeof it === 'string');
  return why === undefined ? msg : `${msg}: ${why}`;
}

function tpuIn({ fields }: Extract<RecordedEvent, { readonly kind: 'pod' }>): number | null {
  const tpu = fields['tpu'];
  return typeof tpu === 'number' && Number.isInteger(tpu) && tpu >= 0 ? tpu : null;
}
