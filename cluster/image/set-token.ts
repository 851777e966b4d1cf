/** Program that replaces the join token by the operator's own; see token-input.ts. */
import { engine } from '../host/engine.ts';

engine.start({ to: 'people' }, engine.inspect(), () => import('./token-input.ts'));
