import { createSocket } from 'node:dgram';

/** The address of this machine that packets to `host` come from: what others can reach it by. */
export function localAddress(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.once('error', reject);
    // Connecting a datagram socket sends nothing: it only looks up the route.
    socket.connect(port, host, () => {
      const { address } = socket.address();
      socket.close();
      resolve(address);
    });
  });
}
