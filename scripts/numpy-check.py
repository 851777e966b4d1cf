"""Computes again, in plain NumPy, the training steps that numpy-check.ts wrote to a directory.

usage: python3 scripts/numpy-check.py DIR

With f32 multiplicands NumPy and the emulator start from the same weights, and each computes all
steps from its own. With bf16 each step of NumPy starts from the emulator's weights: a difference in
the last bit of f32 can round to another bf16, and the next step would start from other weights.

Prints for each step the relative difference of the loss, and the largest relative difference of a
gradient (Euclidean norm, over all weights). A tie is a ReLU or a maximum whose decision depends on
less than the rounding of its input: both decisions are right, but they give different gradients.
The script computes how much ties can change each gradient, and subtracts it from the difference;
the output also has the largest difference before the subtraction, named `with ties`. The exit code
is 1 if a difference exceeds the tolerance of the multiplicands' precision.
"""

import json
import sys
from pathlib import Path

import numpy as np

# Largest relative difference. f32: effect of another order of sums. bf16: half a step of a bf16.
TOLERANCE = {"f32": 1e-5, "bf16": 2.0**-8}
# Distance below which a decision is a tie, relative to the root mean square of the inputs. f32:
# effect of rounded sums and of weights that differ a little. bf16: 0, as its tolerance needs no
# correction.
TIE = {"f32": 1e-6, "bf16": 0.0}


def main(directory):
    manifest = json.loads((directory / "manifest.json").read_text())
    precision = manifest["precision"]
    limit = TOLERANCE[precision]
    dims = {w["name"]: w["dims"] for w in manifest["weights"]}
    weights = read_all(directory, "weights.0", dims)
    momenta = {name: np.zeros_like(w) for name, w in weights.items()}
    rate, decay = np.float32(manifest["learningRate"]), np.float32(manifest["momentum"])
    worst = 0.0
    for step in range(manifest["steps"]):
        if precision == "bf16":
            weights = read_all(directory, f"weights.{step}", dims)
        images = np.fromfile(directory / f"images.{step}", "<f4")
        images = images.reshape([manifest["batch"], *manifest["image"]])
        labels = np.fromfile(directory / f"labels.{step}", "<i4")
        found = read_all(directory, f"gradient.{step}", dims)

        loss, correct, gradients = derive(manifest, weights, images, labels, 0)
        tilted = [derive(manifest, weights, images, labels, tilt)[2] for tilt in (-1, 1)]
        ties = {
            name: sum(relative(other[name], g) for other in tilted) for name, g in gradients.items()
        }
        plain = {name: relative(found[name], g) for name, g in gradients.items()}
        errors = {name: max(0.0, error - ties[name]) for name, error in plain.items()}
        loss_error = abs(manifest["losses"][step] - loss) / abs(loss)
        name = max(errors, key=errors.get)
        worst = max(worst, loss_error, errors[name])
        right = "same" if correct == manifest["correct"][step] else "other"
        print(
            f"step {step}: loss {loss:.6f} ({loss_error:.1e}), gradients {errors[name]:.1e} "
            f"({name}; {max(plain.values()):.1e} with ties), right answers {right}"
        )
        for name, gradient in gradients.items():
            momenta[name] = gradient + decay * momenta[name]
            weights[name] = weights[name] - rate * momenta[name]
    print(f"largest difference {worst:.1e}, at most {limit:.1e} allowed")
    return 0 if worst <= limit else 1


def derive(manifest, weights, images, labels, tilt):
    """Returns loss, number of right answers, and gradients. The sign of `tilt` decides ties."""
    precision = manifest["precision"]
    multiplicand = to_bf16 if precision == "bf16" else (lambda x: x)
    tape = Tape(multiplicand, np.float32(tilt * TIE[precision]))
    logits = NETWORKS[manifest["model"]](tape, weights, images)
    loss, correct, cotangent = softmax_cross_entropy(logits, labels)
    return loss, correct, tape.gradients(cotangent)


def read_all(directory, what, dims):
    return {name: read(directory, what, name, sizes) for name, sizes in dims.items()}


def read(directory, what, name, dims):
    return np.fromfile(directory / f"{what}.{name.replace('/', '.')}", "<f4").reshape(dims)


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def to_bf16(x):
    """Rounds to the nearest bf16 (ties to even, below 2^-126 to zero) and returns it as f32."""
    bits = np.ascontiguousarray(x, "<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    rounded = np.where((rounded & 0x7F800000) == 0, rounded & 0x80000000, rounded)
    return rounded.astype("<u4").view("<f4")


class Tape:
    """Runs layers forward and records for each layer a function that computes its gradients."""

    def __init__(self, multiplicand, tilt):
        self.backward = []
        self.tilt = tilt
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
        """Convolution without padding, as a matmul of unfolded windows.

        `x` is [batch, rows, columns, channels].
        """
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
        passes = x > self.tilt * rms(x)
        self.backward.append(lambda ct: (np.where(passes, ct, np.float32(0)), {}))
        return np.maximum(x, np.float32(0))

    def max_pool(self, x):
        """Maximum of 2×2 windows. The gradient goes to the first of equal largest elements."""
        batch, rows, columns, channels = x.shape
        halves = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
        windows = halves.transpose(0, 1, 3, 5, 2, 4).reshape(
            batch, rows // 2, columns // 2, channels, 4
        )
        lean = self.tilt * rms(x) * np.arange(4, dtype=np.float32)
        first = (windows + lean).argmax(-1)

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
    """Returns mean loss, number of right answers, and derivative of the mean loss by the logits."""
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
