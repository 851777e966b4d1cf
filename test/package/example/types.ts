import { kill, type PodRun, pause, pod, slow } from 'tpu-pod/testing';

/** Uses of the library that a type checker must accept. */
export async function accepted(): Promise<PodRun> {
  const run = await pod({ topology: '4x2', learningRate: 0.1 })
    .inject(slow(6, { factor: 2 }).at({ step: 8 }).for({ steps: 4 }))
    .onEvent((event) => {
      if (event.kind === 'note') console.log(event.note.event, event.note.tpu);
    })
    .train();
  const losses: readonly number[] = run.steps.map(({ loss }) => loss);
  console.log(losses, run.faults[0]?.recoveryMs?.toFixed(), run.verdicts[0]?.found);
  return run;
}

/**
 * Mistakes that a type checker must find. A line with a mistake follows each `@ts-expect-error`. If
 * the line were correct, the type checker would report an error.
 */
export function refused(): void {
  // @ts-expect-error: a Cloud TPU is a number
  kill('3');
  // @ts-expect-error: the fault has no position
  pod().inject(kill(3));
  // @ts-expect-error: there is no such phase
  kill(3).at({ step: 1, phase: 'reduce' });
  // @ts-expect-error: a kill has no end
  kill(3).at({ step: 1 }).for({ steps: 1 });
  // @ts-expect-error: the pause has no time
  pause(3, {}).at({ step: 1 });
  // @ts-expect-error: there is no such setting
  pod({ tpu: 8 });
  // @ts-expect-error: there is no such network
  pod({ model: 'nope' });
  // @ts-expect-error: a run with faults has no log of its own
  pod({ log: 'file' });
}
