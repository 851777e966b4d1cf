/** Exits 0 when the master or worker beside it is ready: for health checks of containers. */
import { engine } from '../host/engine.ts';

engine.start({ to: 'people' }, engine.inspect(), () => import('./readiness.ts'));
