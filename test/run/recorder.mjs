// Writes events to a run folder: node recorder.mjs FOLDER EVENTS SETTINGS. EVENTS is a JSON list,
// SETTINGS (of the run) a JSON object. Prints what could not be written, and why.

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
