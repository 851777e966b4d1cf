/** Locks a folder, prints `locked`, and holds the lock until killed: node locker.mjs <folder> */
import { lockFolder } from '../../../dist/cluster/host/lock.js';

lockFolder(process.argv[2], 'a test');
process.stdout.write('locked\n');
setInterval(() => {}, 1000);
