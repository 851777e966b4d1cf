import type { FromWorker } from '../../src/pod/messages.ts';
import type { Refusal } from './frame.ts';
import { silentBeatsMax } from './pump.ts';

/** Time, in ms, after which a Cloud TPU tells its peers again that it lives. */
export const beatMs = 1000;
/** Longest time, in ms, for which nothing may arrive from a peer before the peer is reported. */
export const silentMs: number = beatMs * silentBeatsMax;
/** Refusal that stands for the end of a connection if the peer has given no reason. */
export const ended: Refusal = { code: 'peer', text: 'the connection has ended' };
/** Reason that a Cloud TPU gives to the master if nothing arrives from a peer any more. */
export const unheard: Refusal = {
  code: 'timeout',
  text: `nothing has arrived for ${silentMs} ms`,
};

/**
 * Time, in ms, between the end of a connection to a peer and the report of that peer to the master.
 * If the peer has failed, the master usually learns this in another way during this time and begins
 * a new membership. The report is then not sent.
 */
export const troubleMs = 1500;

/**
 * True if this end, not the peer, has ended the connection because a frame was corrupt or lost.
 * Then the peer or the link is certainly faulty, so the peer is reported at once.
 */
export function isSpoiled({ code, isTheirs }: Refusal): boolean {
  return isTheirs !== true && ['payload-crc', 'header-crc', 'lost'].includes(code);
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
    code: isSpoiled(refusal) ? 'bad-frame' : 'link-timeout',
    message: `the connection from Cloud TPU ${suspect} failed: ${refusal.text}`,
  };
}
