/**
 * Exits 0 if the process that has written the status file is ready; otherwise exits 1. The process
 * is a master or a worker. The environment variable `POD_STATUS_FILE` has the path of the file.
 */
import { isReady, statusPath } from './status-file.ts';

process.exitCode = isReady(statusPath(process.env)) ? 0 : 1;
