import { WebSocket } from 'ws';
import { controlPath } from './control.ts';
import { emptyHeader, encodeFrame, frameKinds } from './frame.ts';

/** Longest time, in ms, that {@link knock} waits for the answer of the master. */
const answerMsLimit = 4000;

/**
 * Connects to a master as a worker of another protocol version would, for a fault plan. Sends a
 * hello frame of the version `version` and waits until the master has refused it. `url` has the form
 * `ws://host:port`. If no master answers, the connection ends without an effect.
 */
export function knock(url: string, version: number): Promise<void> {
  const ws = new WebSocket(`${url}${controlPath}`, { handshakeTimeout: answerMsLimit });
  const hello = encodeFrame({ ...emptyHeader(), kind: frameKinds.hello }, undefined, version);
  const late = setTimeout(() => ws.terminate(), answerMsLimit);
  ws.on('open', () => ws.send(hello));
  // The error of a connection that fails has no effect: the event `close` follows.
  ws.on('error', () => undefined);
  return new Promise((resolve) => {
    ws.on('close', () => {
      clearTimeout(late);
      resolve();
    });
  });
}
