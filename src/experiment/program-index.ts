/**
 * Indices of the two programs of a run in the pod's list of programs. This file imports nothing, so
 * a worker thread that imports it loads no compiler.
 */

/** Index of the program that trains. */
export const trainProgram = 0;

/**
 * Index of the program that evaluates. Faults of the phase `evaluate` take effect only in this
 * program, and faults of all other phases of a step only in the other programs.
 */
export const evaluateProgram = 1;
