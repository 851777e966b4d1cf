/**
 * Health check of containers: exits 0 if the master or worker of this container is ready, otherwise
 * exits 1.
 */
import { engine } from '../host/engine.ts';

engine.start({ to: 'people' }, engine.inspect(), () => import('./readiness.ts'));
