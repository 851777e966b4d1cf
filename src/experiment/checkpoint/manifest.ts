import { createHash } from 'node:crypto';
import { z } from 'zod';
import { assert } from '../../numerics/assert.ts';
import { badData } from './bad-data.ts';

/** Content of a checkpoint's `manifest.json`. */
export interface Manifest {
  readonly format: typeof manifestFormat;
  readonly version: typeof manifestVersion;
  /** Number of steps committed. */
  readonly step: number;
  /**
   * Number of examples that the run has used. It is also a position in the stream of examples: the
   * next step begins there.
   */
  readonly samplesSeen: number;
  /** Size of the training set. The order of the stream of examples depends on it. */
  readonly trainSamples: number;
  /** Mean loss of the last step over its global batch. */
  readonly loss: number;
  /** Digest of the weights that all Cloud TPUs agreed on: 16 hexadecimal digits. */
  readonly weightsDigest: string;
  /** Settings of the run, such as the seed, and other values that identify the run. */
  readonly config: Fields;
  /**
   * Names of the parameters, in order. The first `weights` names are of weights, the other names
   * are of optimizer state.
   */
  readonly parameters: readonly string[];
  readonly weights: number;
  readonly files: readonly ManifestFile[];
}

/** Name, size and digest of a file of a checkpoint. */
export interface ManifestFile {
  readonly name: string;
  readonly bytes: number;
  /** 64 hexadecimal digits. */
  readonly sha256: string;
}

/** The fields of a JSON object. */
export type Fields = Readonly<Record<string, unknown>>;

/** Value of the field `format`, which identifies a manifest. */
export const manifestFormat = 'tpu-pod checkpoint';
/**
 * Version of the format that this program writes. The program refuses manifests of other versions.
 */
export const manifestVersion = 1;

/**
 * Largest size of a manifest in bytes. A manifest names all parameters, and the largest networks
 * have some thousand parameters.
 */
export const manifestBytesMax: number = 2 ** 22;

/**
 * Returns the text of a manifest, as JSON. The last field, `sha256`, is the SHA-256 of the text
 * without that field. {@link parseManifest} refuses the same JSON in any other form, such as with
 * other spaces.
 */
export function manifestText(manifest: Manifest): string {
  const text = sealed(toFields(manifest));
  assert(text.length <= manifestBytesMax, `a manifest of ${text.length} characters`);
  return text;
}

/**
 * Parses the text of a manifest.
 *
 * @throws PodError `bad-data` if the format or version is unknown, the checksum does not match, or
 *   a field is wrong.
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  const { text, value } = parseJson(bytes);
  const { [sealKey]: _, ...fields } = value;
  checkVersion(fields);
  if (sealed(fields) !== text)
    throw badData('the text of the manifest does not match its checksum');
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

/**
 * Throws `bad-data` unless the manifest has the format and the version that this program writes.
 * Must be called before the checksum is compared, because other versions may compute the checksum
 * in another way.
 */
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
