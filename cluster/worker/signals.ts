/** SIGTERM or SIGINT asks to end; the second one ends the process at once. */
export function onEnd(end: (signal: NodeJS.Signals) => void): void {
  let isAsked = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (isAsked) process.exit(143);
      isAsked = true;
      end(signal);
    });
  }
}
