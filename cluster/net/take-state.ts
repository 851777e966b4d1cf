import { type ErrorCode, PodError } from '../../src/numerics/error.ts';
import type { Refusal } from './frame.ts';
import { nameState, type StateQuery, StateTaker } from './state.ts';
import { connectTensors, type TensorClient, type TensorOffer } from './tensor-socket.ts';
import type { Token } from './token.ts';

export interface TakeOptions extends StateQuery {
  readonly token: Token;
  /** Addresses at which the process of Cloud TPU `peer` accepts connections. */
  readonly offer: TensorOffer;
  readonly self: number;
  readonly peer: number;
  readonly generation: number;
  /** Memory for each parameter, in order. Received bytes are written directly into this memory. */
  readonly into: readonly Uint8Array[];
}

/**
 * Longest time, in ms, during which no byte may arrive. After that time the transfer fails with the
 * code `worker-silent`.
 */
const silentMsMax = 10_000;
/**
 * Delay in ms before the next attempt to connect to a peer that has not joined this membership yet.
 */
const retryMs = 50;

/** Transfer of parameters that is under way. */
export interface Taking {
  /**
   * Resolves when all parameters have arrived. Rejects if the transfer fails or is cancelled, with
   * a `PodError` that names the peer.
   */
  readonly done: Promise<void>;
  /**
   * Cancels the transfer: `done` rejects, and nothing more is written to the memory of the
   * parameters.
   */
  cancel(): void;
}

/**
 * Fills the memory `options.into` with the parameters of Cloud TPU `options.peer`, over a
 * connection to the process of that Cloud TPU.
 */
export function takeState(options: TakeOptions): Taking {
  let settle: { resolve(): void; reject(error: PodError): void } | undefined;
  const done = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject };
  });
  let isOver = false;
  let client: TensorClient | undefined;
  const end = (refusal: Refusal | undefined): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(silence);
    client?.close();
    if (refusal === undefined) settle?.resolve();
    else settle?.reject(failure(options, refusal));
  };
  const silence = setTimeout(() => {
    end({ code: 'timeout', text: `no data for ${silentMsMax} ms` });
  }, silentMsMax);
  const connect = (): void => {
    if (isOver) return;
    client = connectOnce(options, {
      heard: () => silence.refresh(),
      taken: () => end(undefined),
      closed: end,
      early: () => setTimeout(connect, retryMs),
    });
  };
  connect();
  return {
    done,
    cancel: () => end({ code: 'peer', text: 'cancelled: the membership has ended' }),
  };
}

interface TakeEvents {
  /**
   * The transfer calls `heard` when bytes have arrived, and `taken` when all parameters have
   * arrived.
   */
  heard(): void;
  taken(): void;
  /** Called when the transfer has failed. */
  closed(refusal: Refusal): void;
  /**
   * Called when the peer has not joined this membership yet. The caller must connect again later.
   */
  early(): void;
}

function connectOnce(options: TakeOptions, events: TakeEvents): TensorClient {
  const { token, offer, self, peer, generation, into } = options;
  let isOpen = false;
  return connectTensors({
    ...{ token, offer },
    hello: { channel: 'state', from: self, to: peer, generation },
    heard() {
      if (isOpen) events.heard();
    },
    closed(refusal) {
      // A peer closes all its connections when it joins a membership. So if the connection closes
      // during the handshake, the peer may just be joining this membership. If the peer refuses the
      // connection with the code `generation`, the peer is still in another membership. In both
      // cases this process connects again.
      const isEarly = !isOpen && (refusal === undefined || refusal.code === 'generation');
      if (isEarly) events.early();
      else
        events.closed(
          refusal ?? { code: 'peer', text: 'disconnected before all parameters had arrived' },
        );
    },
    open(wire) {
      isOpen = true;
      const taker = new StateTaker(options, generation, into, events.taken);
      wire.write(taker.query);
      return taker;
    },
  });
}

function failure(options: TakeOptions, refusal: Refusal): PodError {
  const what = `${nameState(options)} from Cloud TPU ${options.peer}`;
  return new PodError(codeOf(refusal), `${what}: ${refusal.text}`);
}

function codeOf({ code }: Refusal): ErrorCode {
  switch (code) {
    case 'timeout':
      return 'worker-silent';
    case 'payload-crc':
    case 'header-crc':
      return 'bad-frame';
    default:
      return 'worker-exited';
  }
}
