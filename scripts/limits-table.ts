import { limits } from '../cluster/limits.ts';
import { bodyBytesMax, pageMax, waitMsMax } from '../cluster/master/job-api.ts';
import { restartMsMax } from '../src/cli/job-client.ts';
import { suspicionsMax } from '../src/pod/master/agreement.ts';
import { untimedFactor } from '../src/pod/master/failure-detector.ts';
import { withTable } from './doc-table.ts';

/** Path of the page that contains the table of limits. */
export const limitsPage = 'docs/REFERENCE.md';

/** Returns a copy of the text `page` with the table of limits made anew from the code. */
export function withLimits(page: string): string {
  return withTable(page, 'limits', [['limit', 'value'], limitRows()]);
}

/** Returns the rows of the table. A row has a limit in words, and its value with a unit. */
function limitRows(): readonly (readonly [string, string])[] {
  const { silenceMs, silenceFactor } = limits;
  return [
    [
      '*Limit of silence*: time without progress in a step until a Cloud TPU is suspected',
      `${seconds(silenceMs.fast)} (${seconds(silenceMs.systolic)} with \`--mxu systolic\`), or ${silenceFactor} times the longest recent pause after which a Cloud TPU went on, if that is longer`,
    ],
    ['limit of silence before the first step, and between steps', `${untimedFactor} times as long`],
    ['wrong digests or corrupt frames of a Cloud TPU until it is replaced', String(suspicionsMax)],
    [
      'losses of one Cloud TPU in a step until the run fails',
      `more than ${limits.lossesPerStepMax}`,
    ],
    [
      'losses of one Cloud TPU in a minute until the run fails',
      `more than ${limits.lossesPerMinuteMax}`,
    ],
    ['time for the present step to end after a signal', seconds(limits.lastStepMs)],
    ['time that a worker looks for a master, or for the token', seconds(limits.searchMs)],
    [
      'how often a waiting worker logs `awaits-master` or `awaits-token`',
      seconds(limits.searchLogMs),
    ],
    [
      'time that a program must run for its count of crashes to begin again',
      seconds(limits.longLifeMs),
    ],
    ['jobs of a serving master that have not ended', String(limits.queueMax)],
    ['time that `pod` commands wait for a master that is being restarted', seconds(restartMsMax)],
    ['jobs in one page of the API', String(pageMax)],
    ['wait for more lines of a log in one request', seconds(waitMsMax)],
    ['body of a request', `${bodyBytesMax / 1024} KiB`],
    ['difference between the clocks of client and master', seconds(limits.clockSkewMs)],
    ['lifetime of a challenge', seconds(limits.challengeMs)],
    [
      'refused connections that are logged one by one (`turned-away`)',
      `${limits.refusalsLogged} in ${seconds(limits.refusalPeriodMs)}`,
    ],
  ];
}

function seconds(ms: number): string {
  return `${ms / 1000} s`;
}
