/**
 * Indices of the two programs of a run in the pod's list of programs. This file imports nothing, so
 * that a worker thread can import it without loading the compiler.
 */

/** Index of the program that trains. */
export const trainProgram = 0;

/**
 * Index of the program that evaluates. An injected fault of the phase `evaluate` takes effect only
 * in this program. Injected faults of all other phases of a step take effect only in other
 * programs.
 */
export const evaluateProgram = 1;

/** Words for the programs of a run in messages, by the index of the program. */
const programWords = [
  { unit: 'step', name: 'the training' },
  { unit: 'batch', name: 'the evaluation' },
] as const;

/** Returns the words for a program in messages. `program` is the index of the program. */
export function wordsOfProgram(program: number): { readonly unit: string; readonly name: string } {
  return programWords[program] ?? { unit: 'step', name: `program ${program}` };
}
