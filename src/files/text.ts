import { type NoFile, readRegularFile } from './read.ts';

/** Text of a file, or what was found instead of a text. */
export type FileText =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'not-text'; readonly found: string; readonly cause: unknown }
  | NoFile;

/** Reads a text file of at most `bytesMax` bytes. Refuses pipes and devices without a wait. */
export function readText(path: string, bytesMax: number): FileText {
  const contents = readRegularFile(path, bytesMax);
  if (contents.kind !== 'contents') return contents;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(contents.bytes);
    return { kind: 'text', text };
  } catch (cause) {
    return { kind: 'not-text', found: 'bytes that are not UTF-8 text', cause };
  }
}
