import { type ErrorCode, PodError } from '../../src/numerics/error.ts';
import type { Refusal } from './frame.ts';
import { nameState, type StateQuery, StateTaker } from './state.ts';
import { connectTensors, type TensorClient, type TensorOffer } from './tensor-socket.ts';
import type { Token } from './token.ts';

export interface TakeOptions extends StateQuery {
  readonly token: Token;
  /** Where the tensors of `peer` come from. */
  readonly offer: TensorOffer;
  readonly self: number;
  readonly peer: number;
  readonly generation: number;
  /** Where the parameters go, each in its place. */
  readonly into: readonly Uint8Array[];
}

/** How long to wait without a byte, in ms. */
const silentMsMax = 10_000;
/** How long to wait before asking again a peer that is not in this membership yet, in ms. */
const retryMs = 50;

/** A transfer under way. */
export interface Taking {
  /** Rejects with a `PodError` that names the peer. */
  readonly done: Promise<void>;
  /** Gives it up: nothing is written to the parameters any more. */
  cancel(): void;
}

/** Fills `into` with parameters of another Cloud TPU, straight from its socket. */
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
    end({ code: 'timeout', text: `nothing in ${silentMsMax} ms` });
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
    cancel: () => end({ code: 'peer', text: 'given up: the membership is over' }),
  };
}

interface TakeEvents {
  /** Something of the parameters has come; all of them have. */
  heard(): void;
  taken(): void;
  /** It has failed. */
  closed(refusal: Refusal): void;
  /** The peer has not come to this membership yet. */
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
      // A peer that begins a membership ends all connections.
      const isEarly = !isOpen && (refusal === undefined || refusal.code === 'generation');
      if (isEarly) events.early();
      else events.closed(refusal ?? { code: 'peer', text: 'gone before all had come' });
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
