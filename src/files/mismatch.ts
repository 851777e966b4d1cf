import type { z } from 'zod';

/** The first thing in which a value does not fit a schema, in words: `apiPort: expected number …`. */
export function mismatch({ issues: [issue] }: z.ZodError): string {
  return `${issue?.path.join('.') || 'it'}: ${issue?.message}`;
}
