/** Puts the operator's own join token in the place of the present one; see token-input.ts. */
import { engine } from '../host/engine.ts';

engine.start({ to: 'people' }, engine.inspect(), () => import('./token-input.ts'));
