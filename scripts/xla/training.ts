import { trainOptions } from '../../src/cli/options.ts';
import { openDataset } from '../../src/data/open.ts';
import { totalSteps } from '../../src/experiment/config.ts';
import { trainingStep } from '../../src/experiment/programs.ts';
import type { EvaluateInputs } from '../../src/hlo/evaluate.ts';
import type { HloModule } from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { networkNames } from '../../src/model/networks.ts';
import { stream } from '../../src/numerics/random.ts';
import type { ArrayShape } from '../../src/numerics/shape.ts';
import { randomLiteral } from '../../test/hlo/programs.ts';
import { arrayOf, infeedShapes } from './host.ts';

/**
 * Returns the training step of every network, with random inputs. The element type is f32, and the
 * matmuls have the precision `highest`.
 */
export function trainingPrograms(): {
  readonly name: string;
  readonly module: HloModule;
  readonly inputs: EvaluateInputs;
}[] {
  return networkNames.map((model) => {
    const flags = { model, tpus: '1', globalBatch: '16', precision: 'f32' };
    const { config } = trainOptions(flags);
    const dataset = openDataset(config.data, config.seed);
    const { module } = trainingStep(config, dataset, totalSteps(config, dataset.train.size));
    return { name: `${model}, training step`, module, inputs: inputsOf(module) };
  });
}

function inputsOf({ entry }: HloModule): EvaluateInputs {
  const shapes = entry.parameters.map(({ shape }) => arrayOf(shape));
  const feeds = postOrder(entry.root).filter(({ opcode }) => opcode === 'infeed');
  const random = (name: string) => (shape: ArrayShape, i: number) =>
    randomLiteral(shape, stream(i, name), false);
  return {
    parameters: shapes.map(random('parameter')),
    infeed: feeds.map(({ shape }) => infeedShapes(shape).map(random('infeed'))),
  };
}
