import { readFileSync, readlinkSync } from 'node:fs';

/** File, pipe or device that a descriptor of a process refers to. */
export interface StandardFile {
  readonly path: string;
  readonly access: 'read' | 'write' | 'both';
}

/**
 * Returns the file, pipe or device that the given descriptor of a process refers to. Returns
 * undefined on systems other than Linux, because they do not report the file.
 */
export function standardFile(
  descriptor: number,
  pid: number | 'self' = 'self',
): StandardFile | undefined {
  try {
    const path = readlinkSync(`/proc/${pid}/fd/${descriptor}`);
    const info = readFileSync(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8');
    const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? '', 8);
    const access = (['read', 'write', 'both'] as const)[flags & 3];
    return access === undefined ? undefined : { path, access };
  } catch {
    return undefined;
  }
}
