import type { z } from 'zod';

/**
 * Describes the first issue that zod found: the path of the wrong value (`contents` for the whole
 * value), then zod's message. Example: `apiPort: expected number …`.
 */
export function mismatch({ issues: [issue] }: z.ZodError): string {
  return `${issue?.path.join('.') || 'contents'}: ${issue?.message}`;
}
