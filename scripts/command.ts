import { Argument, Command, InvalidArgumentError } from 'commander';

/** A script's command line: `--help` says what it does, and what is wrong ends it with exit code 2. */
export function script(name: string, description: string, example: string): Command {
  return commandOf(name)
    .description(description)
    .addHelpText('after', `\nExample:\n  node dist/scripts/${name}.js ${example}`.trimEnd());
}

/**
 * A command line whose mistakes end the script with exit code 2. What a script prints is its result: one
 * whose reader has gone, or whose disk is full, ends with exit code 5.
 */
export function commandOf(name: string): Command {
  process.stdout.on('error', ({ message }) => {
    process.stderr.write(`${name}: standard output: ${message}\n`);
    process.exit(5);
  });
  return new Command(name).exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
}

/** An argument that is a whole number; `fallback` when it is left out. */
export function whole(name: string, description: string, fallback: number): Argument {
  return new Argument(`[${name}]`, description).default(fallback).argParser(wholeNumber);
}

/** Reads a whole number of at most nine digits, of an argument or of an option. */
export function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError(`expected a whole number, found ${JSON.stringify(text)}`);
}
