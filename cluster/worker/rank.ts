import { PodError } from '../../src/numerics/error.ts';
import { quote, quoteName } from '../../src/numerics/quote.ts';
import { type Environment, wholeUnlessEmpty } from '../host/environment.ts';
import { canonicalAddress } from '../net/address.ts';

/** How a list of hosts may name this one. */
export interface OwnNames {
  readonly hostname: string;
  /** Addresses of its network interfaces. */
  readonly addresses: readonly string[];
}

const rankMax = 999_999;
const listLengthMax = 65_536;

/**
 * Which Cloud TPU this process is, as whatever started it says; undefined when the master is to
 * choose. First of: `TPU_WORKER_ID`; the place of this host in `TPU_WORKER_HOSTNAMES`; a Swarm
 * slot, from 1 (`POD_SLOT`); a Kubernetes completion index (`JOB_COMPLETION_INDEX`).
 *
 * @throws PodError `bad-config` when it is not a number, or the list does not have this host once.
 */
export function rankOf(env: Environment, own: OwnNames): number | undefined {
  const id = wholeUnlessEmpty(env, 'TPU_WORKER_ID', { min: 0, max: rankMax });
  if (id !== undefined) return id;
  const hostnames = env['TPU_WORKER_HOSTNAMES'];
  if (hostnames !== undefined && hostnames !== '') return placeIn(hostnames, own);
  const slot = wholeUnlessEmpty(env, 'POD_SLOT', { min: 1, max: rankMax });
  if (slot !== undefined) return slot - 1;
  return wholeUnlessEmpty(env, 'JOB_COMPLETION_INDEX', { min: 0, max: rankMax });
}

/**
 * The place of this host in a list. Whole names come first; then its addresses, and names of which one
 * lacks the end: hosts may be listed with their domain, and may not know it. Two names that both go
 * on after their first label are the same only if they are equal so far: `tpu-1.a` is not `tpu-1.b`.
 */
function placeIn(hostnames: string, { hostname, addresses }: OwnNames): number {
  if (hostnames.length > listLengthMax) {
    throw wrong(`at most ${listLengthMax} characters`, `${hostnames.length}`);
  }
  const entries = hostnames.split(',').map(canonicalHost);
  checkEntries(entries);
  const name = canonicalHost(hostname);
  const whole = entries.indexOf(name);
  if (whole >= 0) return whole;
  const ours = addresses.map(canonicalHost);
  const places = [...entries.keys()].filter((place) => {
    const entry = entries[place] ?? '';
    return ours.includes(entry) || (!isAddress(entry) && beginsAlike(entry, name));
  });
  const [place] = places;
  if (place === undefined) throw wrong(`${quoteName(hostname)} among its names`, quote(hostnames));
  if (places.length === 1) return place;
  const several = places.map((it) => quoteName(entries[it] ?? '')).slice(0, 4);
  throw wrong(`one entry for ${quoteName(hostname)}`, `${several.join(' and ')}: use whole names`);
}

function checkEntries(entries: readonly string[]): void {
  const blank = entries.indexOf('');
  if (blank >= 0) throw wrong('names with commas between them', `no name in place ${blank + 1}`);
  const seen = new Set<string>();
  for (const entry of entries) {
    if (seen.has(entry)) throw wrong('each host once', `${quoteName(entry)} twice`);
    seen.add(entry);
  }
}

/** Names do not depend on upper and lower case, nor on a dot at their end; addresses have many forms. */
function canonicalHost(text: string): string {
  return canonicalAddress(text) ?? text.trim().toLowerCase().replace(/\.$/, '');
}

function isAddress(host: string): boolean {
  return canonicalAddress(host) !== undefined;
}

/** Whether one of two names is the other one, or its beginning up to a dot. */
function beginsAlike(one: string, other: string): boolean {
  return `${one}.`.startsWith(`${other}.`) || `${other}.`.startsWith(`${one}.`);
}

function wrong(expected: string, found: string): PodError {
  return new PodError('bad-config', `TPU_WORKER_HOSTNAMES: expected ${expected}, found ${found}`);
}
