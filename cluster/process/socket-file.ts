import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A path for a unix socket of this process: its name says whose it is. */
export function socketFile(): string {
  return join(tmpdir(), `pod-${process.pid}-${randomBytes(8).toString('hex')}.sock`);
}

/** Removes the sockets of processes that have ended, and were killed before they could do so. */
export function removeSocketFiles(pids: readonly number[]): void {
  const folder = tmpdir();
  for (const name of readdirSync(folder)) {
    const pid = Number(/^pod-(\d+)-[0-9a-f]{16}\.sock$/.exec(name)?.[1]);
    if (pids.includes(pid)) rmSync(join(folder, name), { force: true });
  }
}
