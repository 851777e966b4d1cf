import type { Screen } from '../observe/progress.ts';

/** Width of a terminal that does not say how wide it is, in characters. */
const columnsDefault = 80;

/** A stream as a screen. One that cannot move its cursor (`TERM=dumb`) gets lines only. */
export function screenOf(stream: NodeJS.WriteStream): Screen {
  return {
    terminal: isTerminal(stream),
    get columns() {
      return stream.columns || columnsDefault;
    },
    write: (text) => void stream.write(text),
  };
}

/** Whether a stream goes to a person, who gets text where programs get JSON. */
export function isForPerson(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true;
}

function isTerminal(stream: NodeJS.WriteStream): boolean {
  return isForPerson(stream) && process.env['TERM'] !== 'dumb';
}
