import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { PodError } from '../../src/numerics/error.ts';
import { quote } from '../../src/numerics/quote.ts';

/** Network address of a listening socket: host and TCP port. */
export interface Place {
  /** Host name or IP address. An IPv6 address has no brackets. */
  readonly host: string;
  readonly port: number;
}

/** Length of the longest host name, in characters [RFC 1035, 2.3.4]. */
const nameLengthMax = 253;

/**
 * Parses `HOST:PORT`. An IPv6 address must be in brackets. White space around the text is ignored.
 *
 * @param name Name of the environment variable that holds `text`, for messages.
 * @throws PodError `bad-config` with the reason if `text` is not a valid `HOST:PORT`.
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
  if (trimmed.includes('@')) throw wrong('leave out the user name');
  if (isIPv6(trimmed) || /^[^[\]]*:[^[\]]*:/.test(trimmed)) {
    throw wrong('an IPv6 address must be in brackets');
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
 * Parses a host name or an IP address. Brackets around an IPv6 address are optional.
 *
 * @param name Name of the environment variable that holds `text`, for messages.
 * @throws PodError `bad-config` with the reason if `text` is not a valid host.
 */
export function parseHost(name: string, text: string): string {
  const host = text.trim();
  const why = isIPv6(host) && !host.includes('%') ? undefined : hostProblem(host);
  if (why === undefined) return withoutBrackets(host);
  const expected = 'the name or address of a host';
  throw new PodError('bad-config', `${name}: expected ${expected}, found ${quote(text)}: ${why}`);
}

/** Formats a place as `HOST:PORT`, with an IPv6 address in brackets as in a URL. */
export function formatPlace({ host, port }: Place): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/**
 * Returns the canonical form of an IP address: two spellings of the same address give the same
 * text. An IPv4 address in the form of an IPv6 address (`::ffff:…`) becomes an IPv4 address.
 * Returns undefined if the text is not an IP address. Also returns undefined for an IPv6 address
 * with a zone, such as `fe80::1%eth0`.
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

/** Returns the reason why `host` is not a valid host, or undefined if it is valid. */
function hostProblem(host: string): string | undefined {
  if (host === '') return 'it has no host';
  if (host.startsWith('[') || host.endsWith(']')) {
    const address = withoutBrackets(host);
    if (address.includes('%')) return 'an address with a zone is not supported: use a name';
    return isIPv6(address) && host === `[${address}]`
      ? undefined
      : 'the brackets must contain an IPv6 address';
  }
  if (isIPv4(host)) return undefined;
  // A host name may contain characters outside ASCII. Such a name is looked up in an ASCII form,
  // and the rules for host names apply to that form. So the check converts the name first.
  const name = /^[\x21-\x7e]*$/.test(host) ? host : domainToASCII(host);
  const labels = name.replace(/\.$/, '').split('.');
  if (name === '' || name.length > nameLengthMax || labels.some((it) => !isLabel(it))) {
    return 'no host can have this name';
  }
  const isNumber = /^(?:\d+|0x[0-9a-f]*)$/i.test(labels.at(-1) ?? '');
  return isNumber ? 'an IPv4 address has four numbers from 0 to 255' : undefined;
}

/**
 * True if `text` is a valid label of a host name. Underscores are valid, because container engines
 * create names with underscores.
 */
function isLabel(text: string): boolean {
  return /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(text);
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
