/** Names of the files in a run folder. */
export const runFiles = {
  /** The events, one a line. */
  events: 'events.ndjson',
  /** The settings of the run: `RunSettings`. */
  config: 'config.json',
  /** The report; exists once the run is done. */
  report: 'report.json',
  /** The fault plan, if the run was one of `pod chaos run`. */
  plan: 'plan.yaml',
  /** What happened to the faults of the plan, and the verdict: `JudgedRun`. */
  verdict: 'verdict.json',
} as const;
