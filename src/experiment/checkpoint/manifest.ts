import { createHash } from 'node:crypto';
import { z } from 'zod';
import { assert } from '../../numerics/assert.ts';
import { badData } from './bad-data.ts';

/** What a checkpoint says of itself, in `manifest.json`. */
export interface Manifest {
  readonly format: typeof manifestFormat;
  readonly version: typeof manifestVersion;
  /** Steps committed. */
  readonly step: number;
  /** Position in the stream of samples: the next step begins with this one. */
  readonly samplesSeen: number;
  /** Size of the training set, on which the order of the stream depends. */
  readonly trainSamples: number;
  /** Mean loss of the last step. */
  readonly loss: number;
  /** The digest that all Cloud TPUs agreed on: 16 hexadecimal digits. */
  readonly weightsDigest: string;
  /** Seed and all else that decides the bits of the run. */
  readonly config: Fields;
  /** Names of the parameters in their order; the first `weights` of them are weights. */
  readonly parameters: readonly string[];
  readonly weights: number;
  readonly files: readonly ManifestFile[];
}

/** A file of a checkpoint, with its size and digest. */
export interface ManifestFile {
  readonly name: string;
  readonly bytes: number;
  /** 64 hexadecimal digits. */
  readonly sha256: string;
}

/** Values by name, as JSON has them. */
export type Fields = Readonly<Record<string, unknown>>;

/** What a manifest says that it is. */
export const manifestFormat = 'tpu-pod checkpoint';
/** Version of the format that is written. Other versions are refused. */
export const manifestVersion = 1;

/** A manifest takes no more; the largest networks have some thousand parameters. */
export const manifestBytesMax: number = 2 ** 22;

/**
 * The text of a manifest: JSON, one field a line, with one more field at its end, the SHA-256 of
 * the text without that field. Reading accepts this text alone, byte for byte.
 */
export function manifestText(manifest: Manifest): string {
  const text = sealed(toFields(manifest));
  assert(text.length <= manifestBytesMax, `a manifest of ${text.length} characters`);
  return text;
}

/** @throws PodError `bad-data` saying what is wrong with it. */
export function parseManifest(bytes: Uint8Array): Manifest {
  const { text, value } = parseJson(bytes);
  const { [sealKey]: _, ...fields } = value;
  checkVersion(fields);
  if (sealed(fields) !== text) throw badData('expected the checksum of its text, found another');
  const result = schema.safeParse(fields);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw badData(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
}

const sealKey = 'sha256';

function sealed(fields: Fields): string {
  const sha256 = createHash('sha256').update(print(fields)).digest('hex');
  return print({ ...fields, [sealKey]: sha256 });
}

function print(fields: Fields): string {
  return `${JSON.stringify(fields, undefined, 1)}\n`;
}

function toFields(manifest: Manifest): Fields {
  return { ...manifest };
}

function parseJson(bytes: Uint8Array): { text: string; value: Fields } {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw badData(`expected JSON, found: ${(cause as Error).message}`, cause);
  }
  if (typeof value === 'object' && value !== null) return { text, value: value as Fields };
  throw badData(`expected fields, found ${typeof value}`);
}

/** Before the checksum: another version may have another one. */
function checkVersion({ format, version }: Fields): void {
  if (format !== manifestFormat) {
    throw badData(`format: expected "${manifestFormat}", found ${JSON.stringify(format)}`);
  }
  if (version !== manifestVersion) {
    throw badData(`version: expected ${manifestVersion}, found ${JSON.stringify(version)}`);
  }
}

const count = z.int().min(0);
const schema: z.ZodType<Manifest> = z.strictObject({
  format: z.literal(manifestFormat),
  version: z.literal(manifestVersion),
  step: count,
  samplesSeen: count,
  trainSamples: count,
  loss: z.number(),
  weightsDigest: z.string().regex(/^[0-9a-f]{16}$/),
  config: z.record(z.string(), z.unknown()),
  parameters: z.array(z.string()),
  weights: count,
  files: z.array(
    z.strictObject({
      name: z.string().regex(/^[a-z]+\.safetensors$/),
      bytes: count,
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    }),
  ),
});
