"""Computes again, in plain NumPy, the training steps that numpy-check.ts wrote to a directory.

usage: python3 scripts/numpy-check.py DIR

Prints, for each step, the relative difference of the loss and the largest relative difference of
a gradient (largest absolute difference over largest magnitude, the worst of all weights), and
exits with 1 if one is larger than the precision of the multiplicands allows. Both sides start
from the same weights and take their own steps from there.
"""

import json
import sys
from pathlib import Path

import numpy as np

# f32: what another order of sums may change. bf16: rounding of multiplicands that differ in
# their last f32 bit may differ by a bf16 step, 2^-8.
TOLERANCE = {"f32": 1e-5, "bf16": 2.0**-8}


def main(directory):
    manifest = json.loads((directory / "manifest.json").read_text())
    precision = manifest["precision"]
    weights = {
        w["name"]: read(directory, "initial", w["name"], w["dims"]) for w in manifest["weights"]
    }
    momenta = {name: np.zeros_like(w) for name, w in weights.items()}
    rate, decay = np.float32(manifest["learningRate"]), np.float32(manifest["momentum"])
    multiplicand = to_bf16 if precision == "bf16" else (lambda x: x)
    worst = 0.0
    for step in range(manifest["steps"]):
        images = np.fromfile(directory / f"images.{step}", "<f4")
        images = images.reshape([manifest["batch"], *manifest["image"]])
        labels = np.fromfile(directory / f"labels.{step}", "<i4")
        tape = Tape(multiplicand)
        logits = NETWORKS[manifest["model"]](tape, weights, images)
        loss, correct, cotangent = softmax_cross_entropy(logits, labels)
        gradients = tape.gradients(cotangent)

        loss_error = abs(manifest["losses"][step] - loss) / abs(loss)
        errors = {
            name: relative(read(directory, f"gradient.{step}", name, w.shape), gradients[name])
            for name, w in weights.items()
        }
        name = max(errors, key=errors.get)
        worst = max(worst, loss_error, errors[name])
        right = "same" if correct == manifest["correct"][step] else "OTHER"
        print(
            f"step {step}: loss {loss:.6f} ({loss_error:.1e}), "
            f"gradients {errors[name]:.1e} ({name}), right answers {right}"
        )
        for name, gradient in gradients.items():
            momenta[name] = gradient + decay * momenta[name]
            weights[name] = weights[name] - rate * momenta[name]
    final = max(
        relative(read(directory, "final", name, w.shape), w) for name, w in weights.items()
    )
    worst = max(worst, final)
    limit = TOLERANCE[precision]
    print(f"final weights {final:.1e}; largest difference {worst:.1e}, at most {limit:.1e} allowed")
    return 0 if worst <= limit else 1


def read(directory, what, name, dims):
    return np.fromfile(directory / f"{what}.{name.replace('/', '.')}", "<f4").reshape(dims)


def relative(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def to_bf16(x):
    """To the nearest bf16, ties to even, below 2^-126 to zero; as f32."""
    bits = np.ascontiguousarray(x, "<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    rounded = np.where((rounded & 0x7F800000) == 0, rounded & 0x80000000, rounded)
    return rounded.astype("<u4").view("<f4")


class Tape:
    """Layers forward, each leaving behind how to go backward."""

    def __init__(self, multiplicand):
        self.backward = []
        self.multiplicand = multiplicand

    def gradients(self, cotangent):
        found = {}
        for step in reversed(self.backward):
            cotangent, own = step(cotangent)
            found.update(own)
        return found

    def product(self, a, b):
        return self.multiplicand(a) @ self.multiplicand(b)

    def dense(self, x, weights, name):
        kernel = weights[f"{name}/kernel"]

        def backward(ct):
            own = {f"{name}/kernel": self.product(x.T, ct), f"{name}/bias": ct.sum(0)}
            return self.product(ct, kernel.T), own

        self.backward.append(backward)
        return self.product(x, kernel) + weights[f"{name}/bias"]

    def conv(self, x, weights, name):
        """3×3, valid, images [batch, rows, columns, channels]: a product of unfolded windows."""
        kernel = weights[f"{name}/kernel"]
        height, width, channels, features = kernel.shape
        batch, rows, columns, _ = x.shape
        rows, columns = rows - height + 1, columns - width + 1
        places = [(i, j) for i in range(height) for j in range(width)]
        taps = [x[:, i : i + rows, j : j + columns, :] for i, j in places]
        unfolded = np.stack(taps, 3).reshape(-1, height * width * channels)
        flat = kernel.reshape(-1, features)

        def backward(ct):
            ct = ct.reshape(-1, features)
            own = {
                f"{name}/kernel": self.product(unfolded.T, ct).reshape(kernel.shape),
                f"{name}/bias": ct.sum(0),
            }
            by_tap = self.product(ct, flat.T).reshape(batch, rows, columns, len(places), channels)
            by_input = np.zeros_like(x)
            for n, (i, j) in enumerate(places):
                by_input[:, i : i + rows, j : j + columns, :] += by_tap[:, :, :, n, :]
            return by_input, own

        self.backward.append(backward)
        y = self.product(unfolded, flat).reshape(batch, rows, columns, features)
        return y + weights[f"{name}/bias"]

    def relu(self, x):
        self.backward.append(lambda ct: (np.where(x > 0, ct, np.float32(0)), {}))
        return np.maximum(x, np.float32(0))

    def max_pool(self, x):
        """2×2; the gradient goes to the first largest."""
        batch, rows, columns, channels = x.shape
        halves = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
        windows = halves.transpose(0, 1, 3, 5, 2, 4).reshape(
            batch, rows // 2, columns // 2, channels, 4
        )
        first = windows.argmax(-1)

        def backward(ct):
            spread = np.zeros_like(windows)
            np.put_along_axis(spread, first[..., None], ct[..., None], -1)
            spread = spread.reshape(batch, rows // 2, columns // 2, channels, 2, 2)
            return spread.transpose(0, 1, 4, 2, 5, 3).reshape(x.shape), {}

        self.backward.append(backward)
        return windows.max(-1)

    def flatten(self, x):
        self.backward.append(lambda ct: (ct.reshape(x.shape), {}))
        return x.reshape(len(x), -1)


def mlp(tape, weights, x):
    x = tape.relu(tape.dense(tape.flatten(x), weights, "dense1"))
    return tape.dense(x, weights, "dense2")


def cnn(tape, weights, x):
    x = tape.relu(tape.conv(x, weights, "conv1"))
    x = tape.relu(tape.conv(x, weights, "conv2"))
    x = tape.relu(tape.dense(tape.flatten(tape.max_pool(x)), weights, "dense1"))
    return tape.dense(x, weights, "dense2")


NETWORKS = {"mlp": mlp, "cnn": cnn}


def softmax_cross_entropy(logits, labels):
    """Mean loss, right answers, and the derivative of the mean by the logits."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(1, keepdims=True)
    loss = (np.log(sums[:, 0]) - shifted[rows, labels]).mean()
    one_hot = np.zeros_like(logits)
    one_hot[rows, labels] = 1
    cotangent = (exponentials / sums - one_hot) / np.float32(len(labels))
    return float(loss), int((logits.argmax(1) == labels).sum()), cotangent


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
