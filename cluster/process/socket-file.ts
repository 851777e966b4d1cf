import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The longest path of a unix socket, in bytes, on all systems; a longer one is cut off [unix(7)]. */
const pathBytesMax = 103;

/** A path for a unix socket of this process: its name says whose it is. */
export function socketFile(): string {
  const name = `pod-${process.pid}-${randomBytes(8).toString('hex')}.sock`;
  const paths = folders().map((folder) => join(folder, name));
  return paths.find((path) => Buffer.byteLength(path) <= pathBytesMax) ?? name;
}

/** Removes the sockets of processes that have ended, and were killed before they could do so. */
export function removeSocketFiles(pids: readonly number[]): void {
  for (const folder of folders()) {
    for (const name of readdirSync(folder)) {
      const pid = Number(/^pod-(\d+)-[0-9a-f]{16}\.sock$/.exec(name)?.[1]);
      if (pids.includes(pid)) rmSync(join(folder, name), { force: true });
    }
  }
}

/** Where sockets may lie, the usual place first. */
function folders(): readonly string[] {
  return [...new Set([tmpdir(), '/tmp'])].filter((folder) => existsSync(folder));
}
