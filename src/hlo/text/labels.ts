import type { ConvolutionDimensions } from '../window.ts';
import type { Scanner } from './scanner.ts';

/**
 * Prints the dimension labels of a convolution, such as `b01f_01io->b01f`: first of the input, then
 * of the kernel, then of the output. Each character names the role of one dimension: `b` is the
 * batch, `f` the feature, `i` the input feature, `o` the output feature. A digit is the index of a
 * spatial dimension.
 */
export function labelsText(of: ConvolutionDimensions): string {
  const input = rolesText({ b: of.inputBatch, f: of.inputFeature }, of.inputSpatial);
  const kernel = rolesText(
    { i: of.kernelInputFeature, o: of.kernelOutputFeature },
    of.kernelSpatial,
  );
  const output = rolesText({ b: of.outputBatch, f: of.outputFeature }, of.outputSpatial);
  return `${input}_${kernel}->${output}`;
}

function rolesText(roles: Readonly<Record<string, number>>, spatial: readonly number[]): string {
  const labels: string[] = [];
  for (const [role, dimension] of Object.entries(roles)) labels[dimension] = role;
  spatial.forEach((dimension, i) => {
    labels[dimension] = String(i);
  });
  return labels.join('');
}

/** Reads dimension labels in the form that {@link labelsText} prints. */
export function readLabels(scanner: Scanner): ConvolutionDimensions {
  const position = scanner.position;
  const text = scanner.match(/[bf0-9]+_[io0-9]+->[bf0-9]+/y, 'labels such as b01f_01io->b01f');
  const [input, kernel, output] = text.split(/_|->/) as [string, string, string];
  const rank = input.length;
  for (const labels of [input, kernel, output]) {
    const spatial = Array.from({ length: rank - 2 }, (_, i) => String(i)).join('');
    const letters = labels === kernel ? 'io' : 'bf';
    if ([...labels].sort().join('') !== [...(spatial + letters)].sort().join('')) {
      scanner.fail(`each of ${spatial}${letters} once in ${labels}`, position);
    }
  }
  const spatial = (labels: string): number[] =>
    Array.from({ length: rank - 2 }, (_, i) => labels.indexOf(String(i)));
  return {
    inputBatch: input.indexOf('b'),
    inputFeature: input.indexOf('f'),
    inputSpatial: spatial(input),
    kernelInputFeature: kernel.indexOf('i'),
    kernelOutputFeature: kernel.indexOf('o'),
    kernelSpatial: spatial(kernel),
    outputBatch: output.indexOf('b'),
    outputFeature: output.indexOf('f'),
    outputSpatial: spatial(output),
  };
}
