/** Exits 0 when the master or worker beside it is ready. */
import { isReady, statusPath } from './status-file.ts';

process.exitCode = isReady(statusPath(process.env)) ? 0 : 1;
