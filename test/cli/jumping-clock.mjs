// Module for `node --import`: makes `Date` jump ahead and back by up to a day, every 40 ms.
const jumps = [0, 3_600_000, -3_600_000, 7_200_000, -60_000, -86_400_000];
const everyMs = 40;
const { now } = Date;
const startMs = performance.now();

Date.now = () => {
  const jump = Math.floor((performance.now() - startMs) / everyMs) % jumps.length;
  return now() + jumps[jump];
};
globalThis.Date = new Proxy(Date, {
  construct: (target, words) => new target(...(words.length === 0 ? [Date.now()] : words)),
});
