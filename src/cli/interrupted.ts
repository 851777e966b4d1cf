/** A signal ended the processes of a pod. `exitCode` is the exit code of `pod up`: 130 or 143. */
export class Interrupted extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`a signal ended the pod (exit code ${exitCode})`);
    this.exitCode = exitCode;
  }
}

/** If a signal ended the pod, ends this process too, with the same exit code. */
export async function orEnd<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Interrupted) process.exit(error.exitCode);
    throw error;
  }
}
