import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { PodError } from '../../src/numerics/error.ts';
import { quote } from '../../src/numerics/quote.ts';

/** Where something listens. */
export interface Place {
  /** A name, or an address; one of IPv6 has no brackets. */
  readonly host: string;
  readonly port: number;
}

/** The longest name of a host [RFC 1035, 2.3.4]. */
const nameLengthMax = 253;

/**
 * Reads `HOST:PORT`; an address of IPv6 stands in brackets. White space around it does not count.
 *
 * @param name of the variable that has it, for messages.
 * @throws PodError `bad-config` saying what is wrong with it.
 */
export function parsePlace(name: string, text: string): Place {
  const trimmed = text.trim();
  const wrong = (why: string): PodError => {
    const expected = 'HOST:PORT, such as master:7070 or [::1]:7070';
    return new PodError(
      'bad-config',
      `${name}: expected ${expected}, found ${quote(text)}: ${why}`,
    );
  };
  if (trimmed === '') throw wrong('it is blank');
  if (/\s/.test(trimmed)) throw wrong('it has white space in it');
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed)) throw wrong('leave out the part up to //');
  if (/[/?#]/.test(trimmed)) throw wrong('leave out the path');
  if (trimmed.includes('@')) throw wrong('leave out the user');
  if (isIPv6(trimmed) || /^[^[\]]*:[^[\]]*:/.test(trimmed)) {
    throw wrong('an address of IPv6 stands in brackets');
  }
  const [, host = '', port] = /^(.*?)(?::([^:\]]*))?$/.exec(trimmed) ?? [];
  if (port === undefined) throw wrong('it has no port');
  const why = hostProblem(host);
  if (why !== undefined) throw wrong(why);
  const number = Number(port);
  if (!/^\d{1,5}$/.test(port) || number < 1 || number > 65535) {
    throw wrong('a port is a number from 1 to 65535');
  }
  return { host: withoutBrackets(host), port: number };
}

/**
 * Reads the name or the address of a host; one of IPv6 may stand in brackets.
 *
 * @param name of the variable that has it, for messages.
 * @throws PodError `bad-config` saying what is wrong with it.
 */
export function parseHost(name: string, text: string): string {
  const host = text.trim();
  const why = isIPv6(host) && !host.includes('%') ? undefined : hostProblem(host);
  if (why === undefined) return withoutBrackets(host);
  const expected = 'the name or address of a host';
  throw new PodError('bad-config', `${name}: expected ${expected}, found ${quote(text)}: ${why}`);
}

/** `HOST:PORT`, as in a URL. */
export function formatPlace({ host, port }: Place): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/**
 * An address in the one form that all its forms have in common; undefined of what is none. IPv4
 * within IPv6 is IPv4.
 */
export function canonicalAddress(text: string): string | undefined {
  const address = withoutBrackets(text.trim());
  if (isIPv4(address)) return address;
  if (!isIPv6(address) || address.includes('%')) return undefined;
  const canonical = withoutBrackets(new URL(`http://[${address}]`).hostname);
  const [, high = '', low = ''] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical) ?? [];
  if (high === '') return canonical;
  const bytes = [high, low].flatMap((it) => {
    const word = Number.parseInt(it, 16);
    return [word >> 8, word & 255];
  });
  return bytes.join('.');
}

/** Why no host can have this name, if so. */
function hostProblem(host: string): string | undefined {
  if (host === '') return 'it has no host';
  if (host.startsWith('[') || host.endsWith(']')) {
    const address = withoutBrackets(host);
    if (address.includes('%')) return 'an address with a zone is not supported: use a name';
    return isIPv6(address) && host === `[${address}]`
      ? undefined
      : 'in brackets stands an address of IPv6';
  }
  if (isIPv4(host)) return undefined;
  // Names in other scripts have another form on the wire.
  const name = /^[\x21-\x7e]*$/.test(host) ? host : domainToASCII(host);
  const labels = name.replace(/\.$/, '').split('.');
  if (name === '' || name.length > nameLengthMax || labels.some((it) => !isLabel(it))) {
    return 'no host can have this name';
  }
  const isNumber = /^(?:\d+|0x[0-9a-f]*)$/i.test(labels.at(-1) ?? '');
  return isNumber ? 'an address has four numbers from 0 to 255' : undefined;
}

/** Engines of containers give names with underscores. */
function isLabel(text: string): boolean {
  return /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(text);
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
