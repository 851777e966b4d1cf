import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** How often a name that was known is looked up again when it is not, and after how many ms. */
const triesMax = 20;
const tryMs = 250;

/** The address of this machine that packets to `host` come from: what others can reach it by. */
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

/** Where to listen for those who reach this machine by `own`: others on it only need loopback. */
export async function bindAddress(own: string): Promise<string> {
  if (own === '127.0.0.1' || own === '::1') return own;
  const family = await lookup(own).then(
    (it) => it.family,
    () => 4,
  );
  return family === 6 ? '::' : '0.0.0.0';
}

/** The network may just have changed: a name that is not known now may be in a moment. */
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
