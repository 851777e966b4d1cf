import { conv2d, dense, flatten, type Layer, maxPool, relu, sequential } from './layer.ts';

/** Names of all networks, which are the values of `--model`. */
export const networkNames = ['mlp', 'cnn'] as const;
/** One of {@link networkNames}. */
export type NetworkName = (typeof networkNames)[number];

/**
 * Constructors of the networks. A network computes one logit for each class from an image of shape
 * [rows, columns, channels].
 */
export const networks: Readonly<Record<NetworkName, (classes: number) => Layer>> = { mlp, cnn };

/**
 * Options of the last layer. Its initial weights are near zero, so all logits are near zero at the
 * start of training, and all classes are about equally likely. [Goyal et al., 2017, §5.1]
 */
const head = { deviation: 0.01 };

/** A multilayer perceptron with one hidden layer. Layer sizes on MNIST: 784-512-10. */
function mlp(classes: number): Layer {
  return sequential(
    flatten('flatten'),
    dense('dense1', 512),
    relu('relu1'),
    dense('dense2', classes, head),
  );
}

function cnn(classes: number): Layer {
  return sequential(
    conv2d('conv1', 32, [3, 3]),
    relu('relu1'),
    conv2d('conv2', 64, [3, 3]),
    relu('relu2'),
    maxPool('pool', [2, 2]),
    flatten('flatten'),
    dense('dense1', 128),
    relu('relu3'),
    dense('dense2', classes, head),
  );
}
