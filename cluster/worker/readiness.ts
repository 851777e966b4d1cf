/**
 * Exits 0 if the master or worker whose status file this is (`POD_STATUS_FILE`) is ready, otherwise
 * 1.
 */
import { isReady, statusPath } from './status-file.ts';

process.exitCode = isReady(statusPath(process.env)) ? 0 : 1;
