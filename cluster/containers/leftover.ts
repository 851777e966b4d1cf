import type { ProcessIdentity } from '../host/process-identity.ts';
import type { Docker } from './docker.ts';
import { runnerLabel } from './project.ts';

/** A Compose project of a run with faults that still has containers, networks or volumes. */
export interface FoundProject {
  readonly name: string;
  readonly runner: ProcessIdentity;
}

/** Returns the Compose projects of all runs with faults that still have something in Docker. */
export async function findProjects(docker: Docker): Promise<readonly FoundProject[]> {
  const format = `{{.Label "com.docker.compose.project"}} {{.Label "${runnerLabel}"}}`;
  const filter = ['--filter', `label=${runnerLabel}`, '--format', format];
  const lists = [
    ['ps', '--all'],
    ['network', 'ls'],
    ['volume', 'ls'],
  ];
  const found = new Map<string, ProcessIdentity>();
  for (const words of lists) {
    for (const line of (await docker.run([...words, ...filter])).split('\n')) {
      const [, name, pid, start = ''] = /^(pod-chaos-\S+) (\d{1,10}) ?(\S*)$/.exec(line) ?? [];
      if (name !== undefined) found.set(name, { pid: Number(pid), start });
    }
  }
  return [...found].map(([name, runner]) => ({ name, runner }));
}
