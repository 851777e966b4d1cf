import {
  checkFromWorker,
  checkToWorker,
  type FromWorker,
  type ToWorker,
} from '../../src/pod/messages.ts';
import {
  checkMessage,
  type FieldCheck,
  isAny,
  isBytes,
  isCount,
  isListOf,
  isObject,
  isOptional,
  isPlainUpTo,
  isText,
  isTextUpTo,
  type Shape,
  type Shapes,
} from '../../src/pod/shape.ts';
import type { TensorOffer } from '../net/tensor-socket.ts';

/** What the master tells a worker's process: messages for the worker itself, and what processes need. */
export type ToNode =
  /** The next piece of the executables; all of them come before `welcome`. */
  | { readonly kind: 'code'; readonly bytes: Uint8Array }
  /** Its Cloud TPU, and an `Assignment` as JSON. */
  | { readonly kind: 'welcome'; readonly tpu: number; readonly assignment: string }
  /** The places of all Cloud TPUs from this generation on: where tensors come from. Sent before every `load`. */
  | {
      readonly kind: 'membership';
      readonly generation: number;
      readonly offers: readonly TensorOffer[];
    }
  | { readonly kind: 'pod'; readonly message: ToWorker }
  /** Nobody came for this Cloud TPU: the process is to join for it too. */
  | { readonly kind: 'host'; readonly tpu: number }
  /**
   * The run is over: the process is to say `dismissed`, and to end `lingerMs` after this master has
   * gone. Engines that end a pod with the first container that ends see the master end first.
   */
  | { readonly kind: 'dismiss'; readonly lingerMs: number }
  /** Set a program's parameters to what was written, if `hash` is that of all of it. */
  | ({ readonly kind: 'set'; readonly hash: string } & Request)
  /** A piece of a parameter, at most {@link pieceBytesMax} long; put aside until `set`. */
  | ({ readonly kind: 'write'; readonly bytes: Uint8Array } & Request & Piece)
  | ({ readonly kind: 'read'; readonly length: number } & Request & Piece)
  /** Take a program's parameters from the process of Cloud TPU `peer`. */
  | ({
      readonly kind: 'take';
      readonly peer: number;
      readonly generation: number;
      readonly offer: TensorOffer;
    } & Request);

/** A request for the parameters of a program after `steps` steps; answered once. */
export interface Request {
  readonly id: number;
  readonly program: number;
  readonly steps: number;
}

export interface Piece {
  readonly index: number;
  readonly offset: number;
}

/** What a worker's process tells the master. */
export type FromNode =
  /** It has unpacked the programs, and its neighbours can connect. */
  | {
      readonly kind: 'offer';
      readonly pid: number;
      /** Name of its machine or container. */
      readonly hostname: string;
      readonly offer: TensorOffer;
    }
  /**
   * What its worker says, and the bytes that left on each link of this Cloud TPU: link number,
   * bytes, link number, ….
   */
  | { readonly kind: 'pod'; readonly message: FromWorker; readonly sent: readonly number[] }
  /** Its progress counter. */
  | { readonly kind: 'heartbeat'; readonly progress: number }
  /** The answer to a request; `why` it could not be done, if so. */
  | {
      readonly kind: 'answer';
      readonly id: number;
      readonly why: string | null;
      readonly bytes: Uint8Array;
    }
  /** It has left its Cloud TPU, as it was told to, and waits for another. */
  | { readonly kind: 'left' }
  /** It cannot start, or cannot go on: its last words. `code` is that of a PodError. */
  | { readonly kind: 'unable'; readonly code: string | null; readonly message: string }
  /** It has heard that the run is over. */
  | { readonly kind: 'dismissed' };

/** Control messages stay small: parameters travel in pieces. */
export const pieceBytesMax: number = 512 * 1024;

const isOffer: FieldCheck = isObject({
  host: isPlainUpTo(255),
  port: (value) => isCount(value) && (value as number) <= 65535,
  unixPath: isOptional(isTextUpTo(108)),
} satisfies Shape<TensorOffer>);
const request = { id: isCount, program: isCount, steps: isCount };
const piece = { index: isCount, offset: isCount };

const toNode: Shapes<ToNode> = {
  code: { bytes: isBytes },
  welcome: { tpu: isCount, assignment: isText },
  membership: { generation: isCount, offers: isListOf(isOffer) },
  pod: { message: isAny },
  host: { tpu: isCount },
  dismiss: { lingerMs: isCount },
  set: { hash: isText, ...request },
  write: { bytes: isBytes, ...request, ...piece },
  read: { length: isCount, ...request, ...piece },
  take: { peer: isCount, generation: isCount, offer: isOffer, ...request },
};

const fromNode: Shapes<FromNode> = {
  offer: { pid: isCount, hostname: isPlainUpTo(255), offer: isOffer },
  pod: { message: isAny, sent: isListOf(isCount) },
  heartbeat: { progress: isCount },
  answer: { id: isCount, why: (value) => value === null || isText(value), bytes: isBytes },
  left: {},
  unable: { code: (value) => value === null || isTextUpTo(64)(value), message: isTextUpTo(4096) },
  dismissed: {},
};

/** Checks what arrived at a worker's process. Throws `worker-threw`, naming the field. */
export function checkToNode(value: unknown): ToNode {
  const message = checkMessage<ToNode>(toNode, value, 'a worker');
  return message.kind === 'pod' ? { ...message, message: checkToWorker(message.message) } : message;
}

/** Checks what arrived at the master. Throws `worker-threw`, naming the field. */
export function checkFromNode(value: unknown): FromNode {
  const message = checkMessage<FromNode>(fromNode, value, 'the master');
  if (message.kind !== 'pod') return message;
  return { ...message, message: checkFromWorker(message.message) };
}
