/** True if an error comes from the operating system, such as `ENOSPC`, not from this program. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && 'syscall' in error;
}
