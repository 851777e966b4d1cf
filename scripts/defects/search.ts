import {
  commitWithoutAgreement,
  corruptPayload,
  oldWeightsInEvaluation,
  rollbackThatKeepsCount,
} from './changes.ts';
import type { Change } from './defect.ts';
import { diskSearchDefects } from './search-disk.ts';

/** Defects that `pod chaos search` must find after `scripts/search-defects.ts` has planted them. */
export const searchDefects: readonly Change[] = [
  { name: 'commit without agreement', ...commitWithoutAgreement },
  {
    name: 'agreement of two',
    guarantee: 'The weights of all Cloud TPUs are compared, not those of some.',
    file: 'src/pod/master/stepping.ts',
    from: '  if (reports.some((other) => other.digest !== digest)) {',
    to: '  if (reports.slice(0, 2).some((other) => other.digest !== digest)) {',
  },
  { name: 'rollback that keeps the count', ...rollbackThatKeepsCount },
  { name: 'old weights in the evaluation', ...oldWeightsInEvaluation },
  {
    name: 'heartbeat without progress',
    guarantee: 'A Cloud TPU that makes no progress in a step is suspected.',
    file: 'src/pod/master/failure-detector.ts',
    from: '    if (counter === member.counter) return { ...member, silentMs: member.silentMs + elapsedMs };',
    to: '    if (counter < member.counter) return { ...member, silentMs: member.silentMs + elapsedMs };',
  },
  { name: 'corrupt payload', ...corruptPayload },
  {
    name: 'frames out of order',
    guarantee: 'A frame is added to a sum only if it is the next one.',
    file: 'src/fabric/lane.ts',
    from: '      frame.sequence !== sequence ||',
    to: '',
  },
  {
    name: 'swallowed accusation',
    guarantee: 'A Cloud TPU whose link fails is suspected.',
    file: 'src/pod/master/master.ts',
    from: '      return onAccused(state, message, now);',
    to: "      return now < 0 ? onAccused(state, message, now) : refuse(state, message, 'swallowed');",
  },
  {
    name: 'one loss too many',
    guarantee: 'A run ends if a Cloud TPU is lost more often in a step than the limit.',
    file: 'src/pod/master/losses.ts',
    from: '  return lossesThisStep >= lossesPerStepMax ||',
    to: '  return lossesThisStep > lossesPerStepMax ||',
  },
  {
    name: 'reports of an older membership',
    guarantee: 'A new membership has no reports of an older one.',
    file: 'src/pod/master/membership.ts',
    from: '    return { ...member, status, hasParameters, report: null, silentMs: 0 };',
    to: '    return { ...member, status, hasParameters, silentMs: 0 };',
  },
  {
    name: 'parameters that nobody has',
    guarantee: 'Parameters are copied from a Cloud TPU that has them.',
    file: 'src/pod/master/loading.ts',
    from: 'from: sources[i % sources.length] ?? null };',
    to: 'from: takers[i % takers.length] ?? null };',
  },
  {
    name: 'links of an older membership',
    guarantee: 'Links are made anew for every membership.',
    file: 'cluster/simulated/life.ts',
    from: '    this.#joinLinks(generation);\n',
    to: '    if (this.cores.ici === undefined) this.#joinLinks(generation);\n',
  },
  {
    name: 'a lost Cloud TPU without a host',
    guarantee: 'If no replacement joins in time, another worker hosts the lost Cloud TPU.',
    file: 'src/pod/master/adoption.ts',
    from: '  if (!member.awaitsFirstWorker) return absentMs > recovery.graceMsLimit;',
    to: '  if (!member.awaitsFirstWorker) return false;',
  },
  ...diskSearchDefects,
];
