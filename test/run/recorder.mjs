// Records the events that are given as one JSON list, to the folder that is given first. Prints what
// was lost. The settings of the run are the third argument, as JSON.

import { RunFolder } from '../../dist/src/cli/run-folder.js';
import { outliveFileLimit } from '../../dist/src/files/write.js';
import { RunStream } from '../../dist/src/run/stream.js';

const [path, facts, settings] = process.argv.slice(2);
outliveFileLimit();
const folder = new RunFolder({ path, use: 'a test', onLoss: () => {} });
const stream = new RunStream([folder]);
folder.begin({ settings: JSON.parse(settings), continues: true });
for (const fact of JSON.parse(facts)) stream.tell(fact);
stream.end();
process.stdout.write(String(folder.lost));
