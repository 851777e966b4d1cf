import { PodError } from '../../../src/numerics/error.ts';

/**
 * Messages that the tests send over the control channel. The channel can carry messages of any
 * type. A test gives the channel a function that checks received messages.
 */
export type Word =
  | { readonly kind: 'joined'; readonly tpu: number }
  | { readonly kind: 'start'; readonly step: number; readonly flag: boolean }
  | {
      readonly kind: 'done';
      readonly outfeed: readonly Uint8Array[];
      readonly ms: readonly number[];
    };

/**
 * Returns `value` if it is a Word. Otherwise throws the PodError `worker-threw`, whose text names
 * the wrong field.
 */
export function checkWord(value: unknown): Word {
  const word = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const wrong = wrongField(word);
  if (wrong !== undefined) throw new PodError('worker-threw', `a malformed message: ${wrong}`);
  return word as unknown as Word;
}

function wrongField(word: Record<string, unknown>): string | undefined {
  switch (word['kind']) {
    case 'joined':
      return Number.isSafeInteger(word['tpu']) ? undefined : 'tpu of joined';
    case 'start':
      return Number.isSafeInteger(word['step']) ? undefined : 'step of start';
    case 'done':
      return Array.isArray(word['outfeed']) ? undefined : 'outfeed of done';
    default:
      return 'unknown kind';
  }
}
