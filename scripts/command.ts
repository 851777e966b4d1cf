import { Argument, Command, InvalidArgumentError } from 'commander';

/**
 * Returns a command that parses the command line of a script. `--help` prints the description and
 * the example. A wrong argument ends the script with exit code 2.
 */
export function script(name: string, description: string, example: string): Command {
  return commandOf(name)
    .description(description)
    .addHelpText('after', `\nExample:\n  node dist/scripts/${name}.js ${example}`.trimEnd());
}

/**
 * Returns a command without a description that parses the command line of a script. A wrong
 * argument ends the script with exit code 2. A failed write to standard output ends the script with
 * exit code 5, because the output of a script is its result. Such a write fails, for example, if
 * the disk is full.
 */
export function commandOf(name: string): Command {
  process.stdout.on('error', ({ message }) => {
    process.stderr.write(`${name}: standard output: ${message}\n`);
    process.exit(5);
  });
  return new Command(name).exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
}

/**
 * Returns an optional argument of a command. Its value is a whole number, by default `fallback`.
 */
export function whole(name: string, description: string, fallback: number): Argument {
  return new Argument(`[${name}]`, description).default(fallback).argParser(wholeNumber);
}

/** Parses a whole number of at most nine digits. Throws InvalidArgumentError for any other text. */
export function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError(`expected a whole number, found ${JSON.stringify(text)}`);
}
