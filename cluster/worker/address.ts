import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** How many times an unknown host name is looked up. */
const triesMax = 20;
/** Wait in ms between two attempts to look up a host name. */
const tryMs = 250;

/**
 * Returns the address from which this machine sends packets to `host`. At this address, other
 * machines can reach this machine.
 */
export async function localAddress(host: string, port: number): Promise<string> {
  const { address, family } = await patientLookup(host);
  return new Promise((resolve, reject) => {
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    socket.once('error', reject);
    // Connecting a datagram socket sends nothing: it only looks up the route.
    socket.connect(port, address, () => {
      const own = socket.address();
      socket.close();
      resolve(own.address);
    });
  });
}

/**
 * Returns the address on which this machine must listen so that other processes reach it at the
 * host name or address `own`. If `own` is a loopback address, returns `own`. Otherwise returns
 * `0.0.0.0` or `::`, which stands for all interfaces, depending on the IP version of `own`.
 */
export async function bindAddress(own: string): Promise<string> {
  if (own === '127.0.0.1' || own === '::1') return own;
  const family = await lookup(own).then(
    (it) => it.family,
    () => 4,
  );
  return family === 6 ? '::' : '0.0.0.0';
}

/**
 * Looks up a host name, with retries: a name may be unknown for a moment after the network has
 * changed.
 */
async function patientLookup(host: string): Promise<Awaited<ReturnType<typeof lookup>>> {
  for (let tries = 1; tries < triesMax; tries++) {
    try {
      return await lookup(host);
    } catch {
      await sleep(tryMs);
    }
  }
  return lookup(host);
}
