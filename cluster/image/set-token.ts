/** Program that replaces the pod's join token by a token from the operator; see token-input.ts. */
import { engine } from '../host/engine.ts';

engine.start({ to: 'people' }, engine.inspect(), () => import('./token-input.ts'));
