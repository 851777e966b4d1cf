import { PodError } from '../../src/numerics/error.ts';
import { quote, quoteName } from '../../src/numerics/quote.ts';
import { type Environment, wholeUnlessEmpty } from '../host/environment.ts';
import { canonicalAddress } from '../net/address.ts';

/** Names by which a list of hosts may refer to this host. */
export interface OwnNames {
  readonly hostname: string;
  /** Addresses of the network interfaces of this host. */
  readonly addresses: readonly string[];
}

/** Largest accepted number (rank) of a Cloud TPU, and largest accepted slot of a Swarm task. */
const rankMax = 999_999;
/** Longest accepted `TPU_WORKER_HOSTNAMES`, in characters. */
const listLengthMax = 65_536;

/**
 * Returns the number of the Cloud TPU that the environment assigns to this process; undefined if
 * the master chooses the number. The first of these variables that is set counts:
 *
 * - `TPU_WORKER_ID`: the number.
 * - `TPU_WORKER_HOSTNAMES`: a list of hosts; the number is the index of this host in it.
 * - `POD_SLOT`: the slot of a Swarm task, from 1; the number is 1 less.
 * - `JOB_COMPLETION_INDEX`: a Kubernetes completion index, which is the number.
 *
 * @throws PodError `bad-config` if the value is not a number in range, or if the list does not name
 * this host exactly once.
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
 * Returns the index of this host's entry in the given list of hosts. If an entry equals the host
 * name, this is the entry. Otherwise exactly one entry must fit, and that is the entry. An entry
 * fits if it is an address of this host, or the host name with a domain added or left out:
 * `tpu-1.example` fits the host name `tpu-1`, but not `tpu-1.test`. Throws if no entry fits, or if
 * several do.
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
  throw wrong(`one entry for ${quoteName(hostname)}`, `${several.join(' and ')}: use full names`);
}

function checkEntries(entries: readonly string[]): void {
  const blank = entries.indexOf('');
  if (blank >= 0)
    throw wrong('names with commas between them', `an empty name at position ${blank + 1}`);
  const seen = new Set<string>();
  for (const entry of entries) {
    if (seen.has(entry)) throw wrong('each host once', `${quoteName(entry)} twice`);
    seen.add(entry);
  }
}

/**
 * Returns the canonical form of a host: an address in its usual spelling, or a name in lower case
 * without a dot at its end. Two texts mean the same host if their canonical forms are equal.
 */
function canonicalHost(text: string): string {
  return canonicalAddress(text) ?? text.trim().toLowerCase().replace(/\.$/, '');
}

function isAddress(host: string): boolean {
  return canonicalAddress(host) !== undefined;
}

/**
 * True if the names are equal, or if one name is the other with a domain behind it: `a.b` is `a`
 * with the domain `b`.
 */
function beginsAlike(one: string, other: string): boolean {
  return `${one}.`.startsWith(`${other}.`) || `${other}.`.startsWith(`${one}.`);
}

function wrong(expected: string, found: string): PodError {
  return new PodError('bad-config', `TPU_WORKER_HOSTNAMES: expected ${expected}, found ${found}`);
}
