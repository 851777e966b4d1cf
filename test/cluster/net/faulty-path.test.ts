import { describe, expect, test } from 'vitest';
import { FaultyPath } from '../../../cluster/net/faulty-path.ts';
import { emptyHeader, encodeFrame, frameKinds } from '../../../cluster/net/frame.ts';
import { LinkFaults, type NetworkFault } from '../../../cluster/net/link-faults.ts';
import { podTorus } from '../../../src/fabric/torus.ts';

const topology = { columns: 4, rows: 2 };
const at = { step: 1 } as const;

const ends = { from: 1, to: 2, fromSite: 1, toSite: 2 };

type Kind = 'tensor' | 'credit' | 'alive';

function makeLinks(nowMs: () => number): LinkFaults {
  return new LinkFaults(topology, podTorus(topology), () => 0, nowMs);
}

/** A path from Cloud TPU 1 to Cloud TPU 2, with a clock that the test sets. */
function makePath(...faults: readonly NetworkFault[]) {
  const clock = { us: 0 };
  const links = makeLinks(() => clock.us / 1000);
  const timers: { readonly us: number; readonly act: () => void }[] = [];
  const sent: { readonly names: string; readonly us: number }[] = [];
  const path = new FaultyPath(links, ends, {
    nowUs: () => clock.us,
    later: (us, act) => void timers.push({ us: clock.us + us, act }),
    depart: ({ pieces, us }) => {
      const names = pieces.map((piece) => piece.readUInt32LE(16)).join(' ');
      sent.push({ names, us });
    },
  });
  for (const fault of faults) links.begin(fault);
  const pass = (ms: number): void => {
    clock.us += 1000 * ms;
    for (const it of timers.splice(0)) if (it.us <= clock.us) it.act();
  };
  return { path, sent, pass };
}

/**
 * Returns a frame with the number `sequence`. By default the frame belongs to a queue of the link
 * from chip (3, 0) to chip (4, 0).
 */
function frame(sequence: number, kind: Kind = 'tensor', queue = 2 * 4 * 3): Buffer {
  return encodeFrame({ ...emptyHeader(), kind: frameKinds[kind], sequence, queue });
}

describe('a path with faults', () => {
  test('lets the next frame overtake a frame once, and loses none', () => {
    const { path, sent } = makePath({ fault: 'reorder', link: [1, 2], at });
    for (const sequence of [1, 2, 3]) path.take(frame(sequence));
    expect(sent.map(({ names }) => names)).toEqual(['2 1', '3']);
    expect(path.isClear).toBe(true);
  });

  test('reorders frames in pairs while the fault lasts, and loses none', () => {
    const { path, sent } = makePath({ fault: 'reorder', link: [1, 2], at, for: { ms: 9 } });
    for (const sequence of [1, 2, 3, 4, 5]) path.take(frame(sequence));
    expect(sent.map(({ names }) => names)).toEqual(['2 1', '4 3']);
  });

  test('keeps a late frame of one connection away from other connections', () => {
    const links = makeLinks(() => 0);
    links.begin({ fault: 'reorder', link: [1, 2], at });
    const late = links.pass({ ...ends, bytes: frame(1) });
    expect(late.isOvertaken).toBe(true);
    expect(links.pass({ ...ends, bytes: frame(2, 'credit') }).pieces.length).toBe(1);
  });

  test('holds frames while the link is down, and then sends them in order', () => {
    const { path, sent, pass } = makePath({
      fault: 'link-down',
      link: [1, 2],
      at,
      for: { ms: 12 },
    });
    for (const sequence of [1, 2]) path.take(frame(sequence));
    pass(5);
    path.take(frame(3));
    expect(sent).toEqual([]);
    pass(5);
    pass(5);
    expect(sent.map(({ names }) => names)).toEqual(['1', '2', '3']);
  });

  test('sends nothing that waits after the connection has ended', () => {
    const { path, sent, pass } = makePath({ fault: 'link-down', link: [1, 2], at, for: { ms: 2 } });
    path.take(frame(1));
    path.drop();
    pass(9);
    expect(sent).toEqual([]);
  });

  test('sends one frame after another over a slow link', () => {
    const fault: NetworkFault = { fault: 'bandwidth', link: [1, 2], bytesPerSecond: 1000, at };
    const { path, sent } = makePath(fault);
    for (const sequence of [1, 2]) path.take(frame(sequence));
    expect(sent.map(({ us }) => us)).toEqual([64_000, 128_000]);
  });

  test('holds only frames and credits of the link that a fault names', () => {
    const down = (link: string): readonly string[] => {
      const { path, sent } = makePath({ fault: 'link-down', link, at });
      // Frame 2 is a credit for frames of the link chip(4,0)-x. A credit travels against these
      // frames, so frame 2 travels over the opposite link, chip(3,0)+x. Frame 3 says that its
      // sender lives. It belongs to no link, although its queue number, 0, is that of a queue of
      // the link chip(0,0)+x.
      const others = [frame(2, 'credit', 2 * (4 * 4 + 1)), frame(3, 'alive', 0)];
      for (const bytes of [frame(1), ...others]) {
        const before = sent.length;
        path.take(bytes);
        if (sent.length === before) path.drop();
      }
      return sent.map(({ names }) => names);
    };
    expect(down('chip(3,0)+x')).toEqual(['3']);
    expect(down('chip(0,0)-x')).toEqual(['1', '2', '3']);
    expect(down('chip(1,0)-x')).toEqual(['1', '2', '3']);
  });
});
