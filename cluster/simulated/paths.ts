/** Paths on the disk of the masters. */
export const paths = { log: '/run/commits.jsonl', checkpoints: '/run/checkpoints' } as const;
