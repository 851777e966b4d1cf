import type { FromWorker } from '../../src/pod/messages.ts';
import type { Refusal } from './frame.ts';

/**
 * Time, in ms, between the end of a connection to a peer and the report of that peer to the master.
 * If the peer has failed, the master usually learns this in another way during this time and begins
 * a new membership. The report is then not sent.
 */
export const troubleMs = 1500;

/**
 * True if a connection has ended because this end, not the peer, received a corrupt frame. Such a
 * frame proves a fault of the peer or of the link, so the peer is reported at once.
 */
export function isCorrupt({ code, isTheirs }: Refusal): boolean {
  return isTheirs !== true && (code === 'payload-crc' || code === 'header-crc');
}

/** Returns the message that reports the end of the connection to the peer `suspect`. */
export function accusation(
  tpu: number,
  generation: number,
  suspect: number,
  refusal: Refusal,
): FromWorker & { kind: 'accused' } {
  return {
    ...{ kind: 'accused', tpu, generation, suspect },
    code: isCorrupt(refusal) ? 'bad-frame' : 'link-timeout',
    message: `the connection from Cloud TPU ${suspect} failed: ${refusal.text}`,
  };
}
