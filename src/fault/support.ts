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
  isJoinFault,
  isLinkFault,
  isMasterFault,
  joinFaults,
  type LinkFault,
  linkFaults,
  type MasterFault,
  masterFaults,
  type Position,
  phaseOf,
} from './plan.ts';

/**
 * True if a kind of pod can inject a fault, otherwise the reason why it cannot. A message has the
 * name of the fault and then the reason: "flip-bit: no frame has a probe, …".
 */
type Support = true | string;

/**
 * Returns true if a pod of the kind `ground` can inject a fault, otherwise the reason why it
 * cannot. The table in docs/FAULTS.md says the same.
 */
export function supported(fault: Fault, ground: Ground): Support {
  switch (ground) {
    case 'containers':
      return inContainers(fault);
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
  'stuck-cell': 'the MXU has no probe',
  ...fromKeys(joinFaults, () => {
    return 'threads are started by the master and join without a handshake';
  }),
  ...fromKeys([...linkFaults, 'partition'], () => 'this ground has no probe on links'),
  ...fromKeys(diskFaults, () => 'this ground has no probe on the disk'),
  ...fromKeys(masterFaults, () => 'this ground has no probe in the master'),
};

function isPauseInSteps(fault: Fault): boolean {
  return fault.fault === 'pause' && fault.for.ms === undefined;
}

/** Reason why no ground takes a pause whose duration is in steps. */
const notInSteps = 'a worker that stands still counts no steps of the others; give the pause in ms';

function inThreads(fault: Fault): Support {
  const { at } = fault;
  if (isJoinFault(fault)) return kindsInThreads[fault.fault];
  if ('afterMs' in at) return 'this ground takes faults at logical positions only';
  if ('during' in at && at.during !== 'loading') {
    return `this ground has no point in the phase ${at.during}; use during: loading`;
  }
  if (isInMaster(fault)) {
    return `the phase ${phaseOf(fault)} is one of the master, which has no probe on this ground`;
  }
  if (isPauseInSteps(fault)) return notInSteps;
  if (fault.fault === 'flip-bit' && fault.in === 'frame') {
    return 'no frame has a probe; use corrupt for a link, or in: reduce-buffer';
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
  if (isJoinFault(fault)) return atJoin(fault.at);
  const found = inThreads(fault);
  if (found !== true) return found;
  if (!isCollective(phaseOf(fault)) || kindsAtHops[fault.fault]) return true;
  return 'hops of processes are made on another thread than the cores; use another phase';
}

/**
 * Returns true if a fault of a join is at the first join of a worker. Only this position is
 * possible. Otherwise returns the reason for a message.
 */
function atJoin(at: Position): Support {
  const isFirst = 'during' in at && at.during === 'joining' && (at.generation ?? 1) === 1;
  return isFirst || 'a worker has faults when it joins for the first time; use during: joining';
}

function inContainers(fault: Fault): Support {
  if (isJoinFault(fault)) return 'a container learns its Cloud TPU only when it has joined';
  if (isInMaster(fault)) {
    return `the phase ${phaseOf(fault)} is one of the master, whose container has no probe`;
  }
  if (isDiskFault(fault))
    return 'the disk of containers is a volume of the machine, without a probe';
  if (fault.fault === 'second-master') return 'the compose file has one master';
  if (isMasterFault(fault) || fault.fault === 'partition') return withDocker(fault);
  return inProcesses(fault);
}

/**
 * Returns true if Docker can inject the fault at its position, with its groups and for its
 * duration. Otherwise returns the reason why not.
 */
function withDocker(fault: MasterFault | (Fault & { readonly fault: 'partition' })): Support {
  const { at } = fault;
  if ('afterMs' in at) return 'containers take faults at logical positions only';
  if ('during' in at && at.during !== 'loading') {
    return `containers have no point in the phase ${at.during}; use during: loading`;
  }
  if ('for' in fault && fault.for?.steps !== undefined) {
    return 'Docker counts no steps; give the time in ms';
  }
  const isOfOne = fault.fault !== 'partition' || fault.groups.slice(1).flat().length === 1;
  return (
    isOfOne || 'Docker cuts a container off from all others; use two groups, the second of one'
  );
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
  if (isPauseInSteps(fault)) return notInSteps;
  if (fault.fault === 'flip-bit' && fault.in !== 'weights' && fault.in !== 'reduce-buffer') {
    return 'a simulated Cloud TPU has weights and sums only; use in: weights or in: reduce-buffer';
  }
  if (isLinkFault(fault) || fault.fault === 'partition') return true;
  const isOfWorker = fault.fault !== 'clock-jump' && kindsInThreads[fault.fault] === true;
  return isOfWorker || 'the simulation has no joins by handshake, no clocks of workers and no MXU';
}

/**
 * Returns true if the simulation can inject a fault of the master or of its disk. Otherwise returns
 * the reason why not.
 */
function ofSimulatedMaster(fault: MasterFault | DiskFault): Support {
  const stopsSteps = ['master-pause', 'master-cut-off', 'disk-full'].includes(fault.fault);
  const isInSteps = 'for' in fault && fault.for?.steps !== undefined;
  return stopsSteps && isInSteps ? 'no step is committed meanwhile; give the time in ms' : true;
}
