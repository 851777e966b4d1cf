import { collectivePhases, type Fault, type Ground } from './plan.ts';

/**
 * Returns true if a ground can inject a fault, otherwise the reason, which ends a message. The table
 * in docs/FAULTS.md says the same.
 */
export function supported(fault: Fault, ground: Ground): true | string {
  if (ground === 'sim' || ground === 'containers') {
    return `the ground ${ground} cannot run plans yet; use --ground threads or processes`;
  }
  const found = onThreads(fault);
  if (found !== true || ground === 'threads') return found;
  const isAtHop = 'step' in fault.at && isCollective(fault.at.phase);
  const atHops = [
    'kill',
    'exit',
    'throw',
    'out-of-memory',
    'hang',
    'pause',
    'lose-row',
    'lose-column',
  ];
  return !isAtHop || atHops.includes(fault.fault)
    ? true
    : 'hops of processes are made on another thread than the cores; use another phase';
}

function isCollective(phase: string | undefined): boolean {
  return (collectivePhases as readonly (string | undefined)[]).includes(phase);
}

function onThreads(fault: Fault): true | string {
  if ('afterMs' in fault.at) return 'threads take faults at logical positions only';
  if ('during' in fault.at && fault.at.during !== 'loading') {
    return `threads have no point in the phase ${fault.at.during}; use during: loading`;
  }
  if ('step' in fault.at && (fault.at.phase === 'commit' || fault.at.phase === 'checkpoint')) {
    return `the phase ${fault.at.phase} is one of the master, which threads share with the command`;
  }
  switch (fault.fault) {
    case 'kill':
    case 'exit':
    case 'throw':
    case 'out-of-memory':
    case 'hang':
    case 'slow':
    case 'clock-jump':
    case 'lose-row':
    case 'lose-column':
      return true;
    case 'pause':
      return fault.for.ms === undefined
        ? 'a thread that stands still counts no steps of the others; give the pause in ms'
        : true;
    case 'flip-bit':
      return fault.in === 'frame'
        ? 'threads share memory, so no frame is copied; use in: reduce-buffer'
        : true;
    case 'stuck-cell':
      return 'threads have no probe in the MXU';
    case 'join-twice':
    case 'join-late':
    case 'wrong-version':
      return 'threads are started by the master and join without a handshake';
    case 'partition':
    case 'link-down':
    case 'delay':
    case 'bandwidth':
    case 'lose':
    case 'duplicate':
    case 'reorder':
    case 'truncate':
    case 'corrupt':
    case 'reset':
      return 'threads have no probe on their links';
    case 'disk-full':
    case 'slow-disk':
    case 'torn-write':
    case 'lost-rename':
    case 'unreadable-checkpoint':
      return 'threads have no probe on the disk';
    case 'master-kill':
    case 'master-pause':
    case 'master-cut-off':
    case 'second-master':
      return 'the master of threads is the command itself';
  }
}
