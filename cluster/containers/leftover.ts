import type { ProcessIdentity } from '../host/process-identity.ts';
import type { Docker } from './docker.ts';
import { runnerLabel } from './project.ts';

/** A project of a run with faults, of which containers, networks or volumes exist. */
export interface FoundProject {
  readonly name: string;
  readonly runner: ProcessIdentity;
}

/** Returns the projects of all runs with faults of which Docker has anything. */
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
