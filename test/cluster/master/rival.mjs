/**
 * One of several processes that compete for the lead of one run. The process opens the commit log,
 * commits up to 20 steps or until another process leads, and opens the log again. It prints each
 * committed step, with a digest that contains the name of the process.
 *
 *     node rival.mjs <log> <name, hexadecimal> <steps>
 */
import { openCommitLog } from '../../../dist/cluster/master/commit-log.js';

const [, , path, name, text] = process.argv;
const steps = Number(text);

for (let last = 0; last < steps; ) {
  const log = openCommitLog(path, { of: 'rivals' });
  const { generation, history } = log.past();
  last = history.length;
  try {
    for (let turns = 0; last < steps && turns < 20; turns++) {
      const step = last + 1;
      log.commit(stepOf(step), generation + 1);
      last = step;
      process.stdout.write(`${step} ${digestOf(step)}\n`);
      if (step % 3 === 0) log.beginGeneration(generation + 1 + step);
      // Pauses of different lengths let other processes take over between commits.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, (step * 7) % 3);
    }
  } catch (error) {
    if (error.code !== 'superseded') throw error;
  }
  log.close();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
}

function digestOf(step) {
  return `${name}${step}`.padStart(16, '0');
}

function stepOf(step) {
  return {
    ...{ kind: 'step', step, steps, epoch: 0, loss: 0, accuracy: 0, learningRate: 0 },
    ...{ digest: digestOf(step), wallMs: 1, imagesPerSecond: 1 },
    phaseMs: { infeed: 0, compute: 0, 'all-reduce': 0, update: 0, outfeed: 0, commit: 0 },
  };
}
