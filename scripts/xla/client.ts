import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { computedTypes, type ElementType, elementTypes } from '../../src/numerics/element-type.ts';
import {
  bytesOf,
  type Literal,
  literalFrom,
  literalOfBytes,
  scalarAt,
} from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

/** Schema of an array in messages to and from scripts/xla-check.py: `hex` is its memory in hex. */
const wireSchema = z.object({
  type: z.enum(computedTypes as [ElementType, ...ElementType[]]),
  dims: z.array(z.int()),
  hex: z.string(),
});
type WireLiteral = z.infer<typeof wireSchema>;

/**
 * Answer of XLA's parser to a text: the module as XLA prints it, or the reason why XLA refused it.
 */
export type ParsedByXla = { readonly printed: string } | { readonly error: string };

const refusedSchema = z.object({ error: z.string() });
const parsedSchema = z.union([z.object({ printed: z.string() }), refusedSchema]);
const textsSchema = z.object({ texts: z.array(parsedSchema) });
const runSchema = z.union([z.object({ results: z.array(wireSchema) }), refusedSchema]);

/** Results of a module that XLA has run, or the reason why XLA did not run it. */
export type RunByXla = { readonly results: readonly Literal[] } | { readonly error: string };

const program = fileURLToPath(new URL('../../../scripts/xla-check.py', import.meta.url));

/** Error: the given Python cannot be started or has no jax 0.10.2. */
export class NoXla extends Error {}

/** XLA in a Python process. If XLA crashes the process, the next request starts a new one. */
export class Xla {
  readonly #python: string;
  #child: ChildProcessWithoutNullStreams | undefined;
  #lines: AsyncIterator<string> | undefined;
  #stderr = '';
  /** The signal that ended the last Python process, or its exit code. */
  #ending = '';

  /** `python` is the path or name of a Python 3.11 program with jax 0.10.2. */
  constructor(python: string) {
    this.#python = python;
  }

  /** Sends texts to XLA's parser and returns one answer for each. Throws NoXla if Python ends. */
  async parse(texts: readonly string[]): Promise<readonly ParsedByXla[]> {
    const answer = await this.#ask({ texts });
    if (answer === undefined) {
      const found = `${this.#python}: ${lastLine(this.#stderr)}`;
      throw new NoXla(`--python: expected a Python that has jax 0.10.2, found ${found}`);
    }
    return textsSchema.parse(answer).texts;
  }

  /** Compiles and runs a module on XLA's CPU backend. A crash of XLA is returned as an error. */
  async run(text: string, inputs: readonly Literal[]): Promise<RunByXla> {
    const answer = await this.#ask({ run: text, arguments: inputs.map(toWire) });
    if (answer === undefined) {
      return { error: `XLA crashed (${this.#ending}): ${lastLine(this.#stderr)}` };
    }
    const found = runSchema.parse(answer);
    return 'error' in found ? found : { results: found.results.map(fromWire) };
  }

  close(): void {
    this.#child?.stdin.end();
  }

  /**
   * Sends a request and returns the answer. Returns undefined if the Python process ends without an
   * answer.
   */
  async #ask(request: object): Promise<unknown> {
    const child = this.#child ?? this.#start();
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const next = await this.#lines?.next();
    if (next?.done === false) return JSON.parse(next.value);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
    this.#ending = child.signalCode ?? `exit code ${child.exitCode}`;
    this.#child = undefined;
    return undefined;
  }

  #start(): ChildProcessWithoutNullStreams {
    const child = spawn(this.#python, [program]);
    this.#child = child;
    this.#stderr = '';
    child.stderr.on('data', (piece: Buffer) => {
      this.#stderr = `${this.#stderr}${piece}`.slice(-10_000);
    });
    child.on('error', ({ message }) => {
      this.#stderr = message;
    });
    // The error of a write to a process that has ended is ignored here. `#ask` notices the end of
    // the process by itself, because no answer comes.
    child.stdin.on('error', () => undefined);
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return child;
  }
}

function toWire(value: Literal): WireLiteral {
  const { type, dims } = value.shape;
  const hex = Buffer.from(bytesOf(value)).toString('hex');
  return { type, dims: [...dims], hex };
}

/** An integer of less than 8 bits has its bits in a byte, whose other bits may be any. */
function fromWire({ type, dims, hex }: WireLiteral): Literal {
  const found = literalOfBytes(arrayShape(type, dims), Buffer.from(hex, 'hex'));
  return elementTypes[type].bits < 8 ? literalFrom(found.shape, (i) => scalarAt(found, i)) : found;
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
