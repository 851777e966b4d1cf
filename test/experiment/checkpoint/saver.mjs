// Saves one checkpoint after another until its process is killed, and prints the step of each. The
// file is plain JavaScript and imports the compiled sources.
const [directory] = process.argv.slice(2);
const compiled = (file) => import(new URL(`../../../dist/src/${file}.js`, import.meta.url));
const { openCheckpoints } = await compiled('experiment/checkpoint/checkpoints');
const { digest, digestText } = await compiled('numerics/digest');

const elements = 2 ** 18;
const checkpoints = await openCheckpoints(directory, { keep: 2 });
for (let step = 1; ; step++) {
  const values = new Float32Array(elements).fill(step);
  const bytes = new Uint8Array(values.buffer);
  const shape = { type: 'f32', dims: [elements] };
  await checkpoints.save({
    ...{
      config: { model: 'none', data: 'none' },
      step,
      samplesSeen: step,
      trainSamples: 1,
      loss: 1,
    },
    weightsDigest: digestText(digest(new Uint32Array(values.buffer))),
    weights: 1,
    tensors: [
      { name: 'w', shape, bytes },
      { name: 'momentum/w', shape, bytes },
    ],
  });
  process.stdout.write(`${step}\n`);
}
