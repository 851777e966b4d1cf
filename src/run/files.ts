/** Names of the files in a run folder. */
export const runFiles = {
  /** The events, one a line. */
  events: 'events.ndjson',
  /** The settings of the run: `RunSettings`. */
  config: 'config.json',
  /** The report; exists once the run is done. */
  report: 'report.json',
} as const;
