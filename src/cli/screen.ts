import type { Screen } from '../observe/progress.ts';

/** Width in characters that is assumed for a terminal that reports no width. */
const columnsDefault = 80;

/**
 * Returns the screen for an output stream. On a terminal that cannot move its cursor (`TERM=dumb`),
 * the screen appends plain lines, as it does for a pipe.
 */
export function screenOf(stream: NodeJS.WriteStream): Screen {
  return {
    terminal: isTerminal(stream),
    get columns() {
      return stream.columns || columnsDefault;
    },
    write: (text) => void stream.write(text),
  };
}

/**
 * True if the stream's output goes to a terminal, where a person reads it. Commands print text for
 * a person, and JSON for a program that reads their output.
 */
export function isForPerson(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true;
}

function isTerminal(stream: NodeJS.WriteStream): boolean {
  return isForPerson(stream) && process.env['TERM'] !== 'dumb';
}
