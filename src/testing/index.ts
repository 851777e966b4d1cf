/** Fault injection for tests: `import { pod, kill } from 'tpu-pod/testing'`. */
export type {
  Duration,
  Expectations,
  Fault,
  Ground,
  Memory,
  Position,
  StepPhase,
} from '../fault/plan.ts';
export type { NoteSeen, SeenEvent, StepSeen, StragglerSeen } from '../fault/seen.ts';
export type { CommitSeen, FaultOutcome, Verdict } from '../fault/verdict.ts';
export { type ErrorCode, PodError } from '../numerics/error.ts';
export * from './faults.ts';
export { type Matched, matchers, type RecoveryBounds } from './matchers.ts';
export { type PodOptions, type PodTest, pod } from './pod.ts';
export type { PodRun } from './pod-run.ts';
export type { RunSettings } from './settings.ts';
