import { PodError } from '../../src/numerics/error.ts';

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Which Cloud TPU this process is, as whatever started it says; undefined when the master is to
 * choose. First of: `TPU_WORKER_ID`; the place of this host in `TPU_WORKER_HOSTNAMES`; a Swarm
 * slot, from 1 (`POD_SLOT`); a Kubernetes completion index (`JOB_COMPLETION_INDEX`).
 *
 * @throws PodError `bad-config` when it is not a number, or the host is not in the list.
 */
export function rankOf(env: Env, hostname: string): number | undefined {
  const id = numberIn(env, 'TPU_WORKER_ID', 0);
  if (id !== undefined) return id;
  const hostnames = env['TPU_WORKER_HOSTNAMES'];
  if (hostnames !== undefined && hostnames !== '') return placeIn(hostnames, hostname);
  const slot = numberIn(env, 'POD_SLOT', 1);
  if (slot !== undefined) return slot - 1;
  return numberIn(env, 'JOB_COMPLETION_INDEX', 0);
}

function numberIn(env: Env, name: string, min: number): number | undefined {
  const text = env[name];
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (/^\d{1,6}$/.test(text) && value >= min) return value;
  throw new PodError('bad-config', `${name}: expected a number from ${min} on, found ${text}`);
}

/** Hosts may be listed with their domain, and may not know it. */
function placeIn(hostnames: string, hostname: string): number {
  const first = (name: string): string => name.trim().split('.')[0] ?? '';
  const place = hostnames.split(',').findIndex((name) => first(name) === first(hostname));
  if (place >= 0) return place;
  throw new PodError('bad-config', `TPU_WORKER_HOSTNAMES: expected ${hostname} among ${hostnames}`);
}
