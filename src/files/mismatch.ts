import type { z } from 'zod';

/**
 * Names the first issue that zod found: the path of the value (`it` for the whole value), then
 * zod's message. Example: `apiPort: expected number …`.
 */
export function mismatch({ issues: [issue] }: z.ZodError): string {
  return `${issue?.path.join('.') || 'it'}: ${issue?.message}`;
}
