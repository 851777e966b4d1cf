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

/**
 * Message from the master to a worker's process. `pod` carries a message for the worker's state
 * machine; the other kinds concern the process, its connections and its parameters.
 */
export type ToNode =
  /** The next piece of the executables. The master sends all pieces before `welcome`. */
  | { readonly kind: 'code'; readonly bytes: Uint8Array }
  /** Gives the process Cloud TPU `tpu`. `assignment` is an `Assignment` as JSON. */
  | { readonly kind: 'welcome'; readonly tpu: number; readonly assignment: string }
  /**
   * Addresses at which the Cloud TPUs accept connections that carry tensors, in the order of the
   * numbers of the Cloud TPUs. The addresses are valid only in the membership with the number
   * `generation`. The master sends this message before every `load`.
   */
  | {
      readonly kind: 'membership';
      readonly generation: number;
      readonly offers: readonly TensorOffer[];
    }
  | { readonly kind: 'pod'; readonly message: ToWorker }
  /**
   * Asks the process to emulate lost Cloud TPU `tpu` in addition to its own, because no replacement
   * has joined. The process answers by joining a second time, for `tpu`.
   */
  | { readonly kind: 'host'; readonly tpu: number }
  /**
   * Tells the process that the run is over. The process answers `dismissed` and ends `lingerMs` ms
   * after the master. The reason: some container engines stop all containers as soon as one has
   * ended, and report the exit code of that container. So the master must end first.
   */
  | { readonly kind: 'dismiss'; readonly lingerMs: number }
  /**
   * Sets a program's parameters to the values that earlier `write` messages brought in pieces.
   * `hash` is the hash of all values that were sent. If the values that have arrived have another
   * hash, the process sets nothing and answers with the reason.
   */
  | ({ readonly kind: 'set'; readonly hash: string } & Request)
  /**
   * A piece of a parameter, at most {@link pieceBytesMax} bytes. The process stores the piece until
   * `set` arrives.
   */
  | ({ readonly kind: 'write'; readonly bytes: Uint8Array } & Request & Piece)
  /**
   * Asks for `length` bytes of a parameter. The answer has at most {@link pieceBytesMax} bytes,
   * even if `length` is larger.
   */
  | ({ readonly kind: 'read'; readonly length: number } & Request & Piece)
  /** Makes the process copy a program's parameters from the process of Cloud TPU `peer`. */
  | ({
      readonly kind: 'take';
      readonly peer: number;
      readonly generation: number;
      readonly offer: TensorOffer;
    } & Request);

/**
 * A request about the parameters that a program has after `steps` steps. The process sends one
 * `answer` with the same `id`.
 */
export interface Request {
  readonly id: number;
  readonly program: number;
  readonly steps: number;
}

/** Place of a piece: index of the parameter, and byte offset in the parameter. */
export interface Piece {
  readonly index: number;
  readonly offset: number;
}

/** Message from a worker's process to the master. */
export type FromNode =
  /**
   * The process has unpacked the programs and accepts connections from its neighbours at the
   * addresses in `offer`.
   */
  | {
      readonly kind: 'offer';
      readonly pid: number;
      /** Name of the process's machine or container. */
      readonly hostname: string;
      readonly offer: TensorOffer;
    }
  /**
   * A message of the worker's state machine. With a `step-done` message, `sent` tells how many
   * bytes the Cloud TPU has sent so far on each of its links. `sent` has two elements for each
   * link: the index of the link, then the number of bytes. With any other message, `sent` is empty.
   */
  | { readonly kind: 'pod'; readonly message: FromWorker; readonly sent: readonly number[] }
  /** Periodic heartbeat with the progress counter of the Cloud TPU. */
  | { readonly kind: 'heartbeat'; readonly progress: number }
  /**
   * The answer to a request. `why` is the reason of a failure, or null if the request succeeded.
   */
  | {
      readonly kind: 'answer';
      readonly id: number;
      readonly why: string | null;
      readonly bytes: Uint8Array;
    }
  /** The process has given up its Cloud TPU after `stop` and waits for another Cloud TPU. */
  | { readonly kind: 'left' }
  /**
   * The process cannot start or continue. `message` is the message of the error that stopped it.
   * `code` is the error's code, or null if the error has none.
   */
  | { readonly kind: 'unable'; readonly code: string | null; readonly message: string }
  /** Answer to `dismiss`. */
  | { readonly kind: 'dismissed' };

/**
 * Longest piece of a parameter in one message, in bytes. Parameters travel in pieces so that
 * control messages stay small.
 */
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

/**
 * Returns `value` as a message to a worker's process. If a field is malformed, throws PodError
 * `worker-threw` with the name of the field.
 */
export function checkToNode(value: unknown): ToNode {
  const message = checkMessage<ToNode>(toNode, value, 'a worker');
  return message.kind === 'pod' ? { ...message, message: checkToWorker(message.message) } : message;
}

/**
 * Returns `value` as a message to the master. If a field is malformed, throws PodError
 * `worker-threw` with the name of the field.
 */
export function checkFromNode(value: unknown): FromNode {
  const message = checkMessage<FromNode>(fromNode, value, 'the master');
  if (message.kind !== 'pod') return message;
  return { ...message, message: checkFromWorker(message.message) };
}
