import { fromKeys } from './from-keys.ts';
import {
  collectivePhases,
  type DiskFault,
  diskFaults,
  type EndingFault,
  type Fault,
  type FaultKind,
  type Ground,
  isCollective,
  isDiskFault,
  isInMaster,
  isLinkFault,
  isMasterFault,
  type LinkFault,
  linkFaults,
  type MasterFault,
  masterFaults,
  phaseOf,
} from './plan.ts';

/**
 * True if a kind of pod can inject a fault, otherwise the reason why it cannot. A message has the
 * name of the fault and then the reason: "flip-bit: threads share memory, …".
 */
type Support = true | string;

/**
 * Returns true if a pod of the kind `ground` can inject a fault, otherwise the reason why it
 * cannot. The table in docs/FAULTS.md says the same.
 */
export function supported(fault: Fault, ground: Ground): Support {
  switch (ground) {
    case 'containers':
      return 'the ground containers cannot run plans yet; use --ground threads or processes';
    case 'sim':
      return inSimulation(fault);
    case 'threads':
      return inThreads(fault);
    case 'processes':
      return inProcesses(fault);
  }
}

const ending: Readonly<Record<EndingFault, true>> = {
  ...{ kill: true, exit: true, throw: true, 'out-of-memory': true, hang: true },
};

const kindsInThreads: Readonly<Record<FaultKind, Support>> = {
  ...ending,
  ...{ pause: true, slow: true, 'clock-jump': true, 'flip-bit': true },
  ...{ 'lose-row': true, 'lose-column': true },
  'stuck-cell': 'threads have no probe in the MXU',
  ...fromKeys(['join-twice', 'join-late', 'wrong-version'], () => {
    return 'threads are started by the master and join without a handshake';
  }),
  ...fromKeys([...linkFaults, 'partition'], () => 'threads have no probe on their links'),
  ...fromKeys(diskFaults, () => 'threads have no probe on the disk'),
  ...fromKeys(masterFaults, () => 'the master of threads is the command itself'),
};

function inThreads(fault: Fault): Support {
  const { at } = fault;
  if ('afterMs' in at) return 'threads take faults at logical positions only';
  if ('during' in at && at.during !== 'loading') {
    return `threads have no point in the phase ${at.during}; use during: loading`;
  }
  if (isInMaster(fault)) {
    return `the phase ${phaseOf(fault)} is one of the master, which threads share with the command`;
  }
  if (fault.fault === 'pause' && fault.for.ms === undefined) {
    return 'a thread that stands still counts no steps of the others; give the pause in ms';
  }
  if (fault.fault === 'flip-bit' && fault.in === 'frame') {
    return 'threads share memory, so no frame is copied; use in: reduce-buffer';
  }
  return kindsInThreads[fault.fault];
}

/**
 * Kinds of faults that a worker's process can inject at a hop of an all-reduce. They end or pause
 * the whole process. A hop runs on another thread than the cores, so faults that change the cores
 * or their memory cannot be injected there.
 */
const kindsAtHops: Readonly<Partial<Record<FaultKind, true>>> = {
  ...ending,
  ...{ pause: true, 'lose-row': true, 'lose-column': true },
};

function inProcesses(fault: Fault): Support {
  if (isLinkFault(fault)) return onLinkOfProcess(fault);
  const found = inThreads(fault);
  if (found !== true) return found;
  if (!isCollective(phaseOf(fault)) || kindsAtHops[fault.fault]) return true;
  return 'hops of processes are made on another thread than the cores; use another phase';
}

function onLinkOfProcess(fault: LinkFault): Support {
  if (!isCollective(phaseOf(fault))) {
    return `links of processes break at hops of an all-reduce; use ${collectivePhases.join(', ')}`;
  }
  return fault.both === true
    ? 'a process has only the links that leave it; give a fault for each direction'
    : true;
}

function inSimulation(fault: Fault): Support {
  if ('afterMs' in fault.at) return 'the simulation takes faults at logical positions only';
  if (isMasterFault(fault) || isDiskFault(fault)) return ofSimulatedMaster(fault);
  if (isInMaster(fault)) {
    return `no worker takes part in the phase ${phaseOf(fault)}; it has faults of masters and disks only`;
  }
  if (fault.fault === 'pause' && fault.for.ms === undefined) {
    return 'a worker that stands still counts no steps of the others; give the pause in ms';
  }
  if (fault.fault === 'flip-bit' && fault.in !== 'weights' && fault.in !== 'reduce-buffer') {
    return 'a simulated Cloud TPU has weights and sums only; use in: weights or in: reduce-buffer';
  }
  if (isLinkFault(fault) || fault.fault === 'partition') return true;
  const isOfWorker = fault.fault !== 'clock-jump' && kindsInThreads[fault.fault] === true;
  return isOfWorker || 'the simulation has no joins by handshake, no clocks of workers and no MXU';
}

/** Says whether the simulation can inject a fault of the master or of its disk. */
function ofSimulatedMaster(fault: MasterFault | DiskFault): Support {
  const stopsSteps = ['master-pause', 'master-cut-off', 'disk-full'].includes(fault.fault);
  const isInSteps = 'for' in fault && fault.for?.steps !== undefined;
  return stopsSteps && isInSteps ? 'no step is committed meanwhile; give the time in ms' : true;
}
