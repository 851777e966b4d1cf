/**
 * Runs before a pod of containers: refuses settings that the master would refuse, while nothing
 * has been started yet, puts the log of a run that has ended aside, and makes the join token where
 * there is none. Prints nothing of it.
 *
 *   node dist/cluster/image/prepare.js                 POD_ARGS, TPUS and POD_TOKEN_FILE
 *   node dist/cluster/image/prepare.js --token-stdin   the token on standard input, instead
 */
import { readFileSync } from 'node:fs';
import { PodError } from '../../src/numerics/error.ts';
import { retireEnded } from '../master/retire.ts';
import { readMaster } from '../master/words.ts';
import { makeToken, replaceToken } from './token-file.ts';

const {
  POD_ARGS = '',
  TPUS = '8',
  POD_TOKEN_FILE = '/run/secrets/pod-token',
  POD_DATA_DIR = '/data',
} = process.env;

try {
  if (process.argv.includes('--token-stdin')) {
    replaceToken(POD_TOKEN_FILE, readFileSync(0, 'utf8'));
    say('token-replaced');
  } else {
    readMaster({ POD_ARGS, TPUS });
    retireEnded(POD_DATA_DIR);
    say(makeToken(POD_TOKEN_FILE) ? 'token-made' : 'token-kept');
  }
} catch (error) {
  process.exitCode = refuse(error);
}

function say(msg: string): void {
  process.stdout.write(`${JSON.stringify({ level: 30, time: Date.now(), msg })}\n`);
}

/** One line on standard error, and the exit code of `pod train`. */
function refuse(error: unknown): number {
  if (!(error instanceof PodError)) throw error;
  process.stderr.write(`pod: ${error.code}: ${error.message}\n`);
  return error.exitCode;
}
