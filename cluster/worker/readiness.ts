/**
 * Exits 0 if the process that wrote the status file `POD_STATUS_FILE`, a master or a worker, is
 * ready; otherwise exits 1.
 */
import { isReady, statusPath } from './status-file.ts';

process.exitCode = isReady(statusPath(process.env)) ? 0 : 1;
