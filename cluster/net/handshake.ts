import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import {
  emptyHeader,
  encodeFrame,
  frameKinds,
  protocolVersion,
  refusalOf,
  smallPayloadBytes,
} from './frame.ts';
import type { Token } from './token.ts';

/**
 * First message of a handshake. It states which process connects, and which process it wants to
 * reach. In a handshake both ends prove that they have the same secret, the token, without sending
 * it:
 *
 * 1. The connecting end sends `hello`: the fields of this interface and a nonce.
 * 2. The listening end sends `challenge`: a nonce.
 * 3. The connecting end sends `proof`: its proof.
 * 4. The listening end checks that proof, then sends `welcome`: its own proof.
 *
 * A proof is an HMAC-SHA256 over five things: the version of the protocol, the end that makes the
 * proof (connecting or listening), the generation, the hello and the nonce of the challenge. So a
 * proof that somebody has recorded is of no use at the other end, in another connection or in
 * another membership.
 */
export interface Hello {
  readonly channel: Channel;
  readonly role: Role;
  /**
   * `from`: number of the connecting process. `to`: number of the process that it wants to reach.
   */
  readonly from: number;
  readonly to: number;
  /** Generation of the membership; 0 before the first membership. */
  readonly generation: number;
}

export const channels = ['control', 'tensor', 'state'] as const;
export type Channel = (typeof channels)[number];
export const roles = ['worker', 'spare', 'operator'] as const;
export type Role = (typeof roles)[number];

/** Process number of the master, and of a process that has not received a number yet. */
export const unnumbered = 0xffffffff;

export const nonceBytes = 32;
const helloBytes = 44;
const proofBytes = 32;

/**
 * What one end of a handshake does next. `go-on`: it waits for the next frame of the peer. `done`:
 * the handshake is complete. `refuse`: it refuses the peer. `send` is a frame to send to the peer
 * first.
 */
export type HandshakeStep =
  | { readonly kind: 'go-on'; readonly send?: Buffer }
  | { readonly kind: 'done'; readonly send?: Buffer; readonly hello: Hello }
  | { readonly kind: 'refuse'; readonly refusal: Refusal };

/** One end of a handshake. `receive` takes a frame of the peer and returns the next action. */
export interface Handshake {
  receive(header: Readonly<FrameHeader>, payload: Uint8Array): HandshakeStep;
}

/**
 * Creates the connecting end of a handshake. `opening` in the result is the encoded hello. The
 * caller must send it first, and then pass each frame of the peer to `receive`. `nonce` has
 * {@link nonceBytes} random bytes.
 */
export function connectingHandshake(
  token: Token,
  hello: Hello,
  nonce: Uint8Array,
): Handshake & { readonly opening: Buffer } {
  const greeting = encodeHello(hello, nonce);
  let challenge: Uint8Array | undefined;
  return {
    opening: record(frameKinds.hello, hello.generation, greeting),
    receive(header, payload) {
      if (header.kind === frameKinds.refuse)
        return { kind: 'refuse', refusal: readRefusal(header, payload) };
      if (challenge === undefined) {
        if (header.kind !== frameKinds.challenge || payload.length !== nonceBytes)
          return outOfOrder;
        challenge = Uint8Array.from(payload);
        const proof = token.prove(proven('connects', hello.generation, greeting, challenge));
        return { kind: 'go-on', send: record(frameKinds.proof, hello.generation, proof) };
      }
      if (header.kind !== frameKinds.welcome || payload.length !== proofBytes) return outOfOrder;
      const parts = proven('listens', hello.generation, greeting, challenge);
      return token.isProof(payload, parts) ? { kind: 'done', hello } : wrongToken;
    },
  };
}

/**
 * Creates the listening end of a handshake. `accepted` lists the channels on which a peer may
 * connect. `nonce` has {@link nonceBytes} random bytes. `admit` is called after the peer has proved
 * that it has the token. If `admit` returns a refusal, the peer may not connect.
 */
export function listeningHandshake(
  token: Token,
  accepted: readonly Channel[],
  nonce: Uint8Array,
  admit: (hello: Hello) => Refusal | undefined,
): Handshake {
  let greeting: Uint8Array | undefined;
  let hello: Hello | undefined;
  return {
    receive(header, payload) {
      if (greeting === undefined || hello === undefined) {
        if (header.kind !== frameKinds.hello) return outOfOrder;
        hello = decodeHello(header, payload);
        if (hello === undefined || !accepted.includes(hello.channel)) return outOfOrder;
        greeting = Uint8Array.from(payload);
        return { kind: 'go-on', send: record(frameKinds.challenge, hello.generation, nonce) };
      }
      if (header.kind !== frameKinds.proof || payload.length !== proofBytes) return outOfOrder;
      const { generation } = hello;
      if (!token.isProof(payload, proven('connects', generation, greeting, nonce)))
        return wrongToken;
      const refusal = admit(hello);
      if (refusal) return { kind: 'refuse', refusal };
      const proof = token.prove(proven('listens', generation, greeting, nonce));
      return { kind: 'done', send: record(frameKinds.welcome, generation, proof), hello };
    },
  };
}

/**
 * Receiver of the frames of a handshake. Two kinds of frames are refused: a frame that does not
 * belong to a handshake (refusal code `order`), and a frame with a payload of more than
 * {@link smallPayloadBytes} bytes (refusal code `length`).
 */
export class HandshakeSink implements FrameSink {
  readonly #handshake: Handshake;
  readonly #act: (step: HandshakeStep) => void;

  constructor(handshake: Handshake, act: (step: HandshakeStep) => void) {
    this.#handshake = handshake;
    this.#act = act;
  }

  place({ kind, bytes }: Readonly<FrameHeader>): Uint8Array | Refusal {
    if (kind > frameKinds.refuse) return { code: 'order', text: 'data before the handshake' };
    if (bytes > smallPayloadBytes)
      return {
        code: 'length',
        text: `a frame of ${bytes} bytes in the handshake, at most ${smallPayloadBytes}`,
      };
    return new Uint8Array(bytes);
  }

  accept(header: Readonly<FrameHeader>, payload: Uint8Array): Refusal | undefined {
    const step = this.#handshake.receive(header, payload);
    if (step.kind === 'refuse') return step.refusal;
    this.#act(step);
    return undefined;
  }
}

/**
 * Encodes a refuse frame, which tells the peer why this end closes the connection. The text of the
 * refusal is cut to {@link smallPayloadBytes} bytes.
 */
export function refusalRecord({ text }: Refusal, code: number): Buffer {
  const payload = Buffer.from(text).subarray(0, smallPayloadBytes);
  return encodeFrame({ ...emptyHeader(), kind: frameKinds.refuse, sequence: code }, payload);
}

/**
 * Decodes a refuse frame of the peer. In the text of the refusal, characters other than printable
 * ASCII become `?`.
 */
export function readRefusal(header: Readonly<FrameHeader>, payload: Uint8Array): Refusal {
  const said = Buffer.from(payload)
    .toString('utf8')
    .replace(/[^\x20-\x7e]/g, '?');
  const text = `refused by the peer: ${said}`;
  return { code: refusalOf(header.sequence), text, isTheirs: true };
}

const outOfOrder: HandshakeStep = {
  kind: 'refuse',
  refusal: { code: 'order', text: 'an unexpected frame in the handshake' },
};
const wrongToken: HandshakeStep = {
  kind: 'refuse',
  refusal: { code: 'token', text: 'wrong token' },
};

function record(kind: FrameHeader['kind'], generation: number, payload: Uint8Array): Buffer {
  return encodeFrame({ ...emptyHeader(), kind, generation }, payload);
}

function encodeHello(hello: Hello, nonce: Uint8Array): Buffer {
  const bytes = Buffer.alloc(helloBytes);
  bytes.set(nonce);
  bytes.writeUInt8(channels.indexOf(hello.channel), nonceBytes);
  bytes.writeUInt8(roles.indexOf(hello.role), nonceBytes + 1);
  bytes.writeUInt32LE(hello.from, nonceBytes + 4);
  bytes.writeUInt32LE(hello.to, nonceBytes + 8);
  return bytes;
}

function decodeHello(
  { generation }: Readonly<FrameHeader>,
  payload: Uint8Array,
): Hello | undefined {
  if (payload.length !== helloBytes) return undefined;
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const channel = channels[bytes.readUInt8(nonceBytes)];
  const role = roles[bytes.readUInt8(nonceBytes + 1)];
  if (channel === undefined || role === undefined || bytes.readUInt16LE(nonceBytes + 2) !== 0) {
    return undefined;
  }
  const from = bytes.readUInt32LE(nonceBytes + 4);
  return { channel, role, from, to: bytes.readUInt32LE(nonceBytes + 8), generation };
}

/**
 * Returns the byte strings over which the proof of the given end (connecting or listening) is
 * computed.
 */
function proven(
  end: 'connects' | 'listens',
  generation: number,
  greeting: Uint8Array,
  challenge: Uint8Array,
): readonly Uint8Array[] {
  return [Buffer.from(`tpu-pod ${protocolVersion} ${end} ${generation}`), greeting, challenge];
}
