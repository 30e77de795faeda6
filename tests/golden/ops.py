"""ops.json and ops.safetensors: single operations with their gradients.

The JSON names the cases and their options; the arrays of a case are `<case>.<array>` in the
safetensors file (float32, labels int64). `grad_output` is the fixed gradient that comes from
above; `grad_*` is what the operation gives back for it.

- max pooling on small integers, 3x3 with stride 2 and padding 1 and other windows: among equal
  values the first in row-major order receives the gradient.
- conv2d: strides 1 and 2, paddings 0, 1 and 3, kernels 1, 3 and 7, square and not; dilation and
  groups, which are 1 where a case does not name them.
- batch norm: training forward, gradients, running statistics (unbiased variance), evaluation; with
  a residual sum, a ReLU and both behind it, by the batch's statistics and by given ones.
- global average pooling, linear layers, and cross entropy with label smoothing, mean over the
  batch.

Arithmetic in float64. Made with torch 2.15.0. Run: python tests/golden/ops.py
"""

import numpy as np
import torch
import torch.nn.functional as F

from golden_files import FOLDER, fix_threads, versions, write_json, write_safetensors

GENERATOR = np.random.default_rng(0)
CONVOLUTIONS = [
    # name, input [N, C, H, W], weight [O, C, K, K], stride, padding
    ("conv2d_1x1", (2, 5, 9, 7), (4, 5, 1, 1), 1, 0),
    ("conv2d_1x1_stride2", (2, 5, 9, 7), (4, 5, 1, 1), 2, 0),
    ("conv2d_3x3", (2, 3, 9, 7), (5, 3, 3, 3), 1, 1),
    ("conv2d_3x3_unpadded", (2, 3, 9, 7), (5, 3, 3, 3), 1, 0),
    ("conv2d_3x3_stride2", (2, 3, 9, 7), (5, 3, 3, 3), 2, 1),
    ("conv2d_3x3_stride2_even", (2, 3, 8, 10), (5, 3, 3, 3), 2, 1),
    ("conv2d_7x7_stride2", (2, 3, 9, 7), (4, 3, 7, 7), 2, 3),
    ("conv2d_7x7_stride2_even", (1, 3, 12, 10), (4, 3, 7, 7), 2, 3),
    ("conv2d_3x3_one_pixel", (3, 4, 1, 1), (6, 4, 3, 3), 1, 1),
    ("conv2d_3x3_wide", (1, 4, 6, 6), (17, 4, 3, 3), 1, 1),
]
SPREAD_CONVOLUTIONS = [
    # name, input [N, C, H, W], weight [O, C / groups, K, K], stride, padding, dilation, groups
    ("conv2d_dilated", (2, 3, 9, 8), (5, 3, 3, 3), 1, 2, 2, 1),
    ("conv2d_dilated_stride2", (1, 4, 11, 9), (3, 4, 3, 3), 2, 1, 3, 1),
    ("conv2d_groups", (2, 6, 7, 5), (4, 3, 3, 3), 1, 1, 1, 2),
    ("conv2d_depthwise", (2, 5, 6, 7), (10, 1, 3, 3), 2, 1, 1, 5),
    ("conv2d_dilated_groups", (2, 6, 9, 10), (9, 2, 3, 3), 1, 2, 2, 3),
]


def draw(*shape, scale=1.0, shift=0.0):
    """Normal values that float32 holds exactly, in float64."""
    return torch.tensor((GENERATOR.normal(size=shape) * scale + shift).astype(np.float32)).double()


def leaf(value):
    return value.clone().requires_grad_()


def with_gradients(function, inputs):
    """The function's output, a fixed gradient from above, and the gradient of every input."""
    leaves = {name: leaf(value) for name, value in inputs.items()}
    output = function(**leaves)
    grad_output = draw(*output.shape)
    output.backward(grad_output)
    return {
        **inputs,
        "output": output,
        "grad_output": grad_output,
        **{f"grad_{name}": value.grad for name, value in leaves.items()},
    }


def max_pool(shape, kernel=3, stride=2, padding=1):
    ties = torch.tensor(GENERATOR.integers(-2, 2, size=shape)).double()
    return with_gradients(lambda input: F.max_pool2d(input, kernel, stride, padding), {"input": ties})


def linear(input_shape, out, bias):
    inputs = {"input": draw(*input_shape), "weight": draw(out, input_shape[-1], scale=0.3)}
    return with_gradients(F.linear, {**inputs, "bias": draw(out)} if bias else inputs)


def average_pool(shape):
    return with_gradients(lambda input: input.mean(dim=(2, 3)), {"input": draw(*shape)})


def convolution(input_shape, weight_shape, stride, padding, dilation=1, groups=1):
    return with_gradients(
        lambda input, weight: F.conv2d(input, weight, None, stride, padding, dilation, groups),
        {"input": draw(*input_shape), "weight": draw(*weight_shape, scale=0.3)},
    )


def batch_norm(shape, momentum, eps):
    channels = shape[1]
    state = {
        "running_mean": draw(channels, scale=0.2),
        "running_var": draw(channels, scale=0.1, shift=1.0).abs(),
    }
    mean, var = state["running_mean"].clone(), state["running_var"].clone()
    inputs = {
        "input": draw(*shape, scale=2.0, shift=0.7),
        "weight": draw(channels),
        "bias": draw(channels),
    }
    evaluated = F.batch_norm(inputs["input"], mean, var, inputs["weight"], inputs["bias"], False, momentum, eps)
    arrays = with_gradients(
        lambda input, weight, bias: F.batch_norm(input, mean, var, weight, bias, True, momentum, eps), inputs
    )
    return {**state, **arrays, "running_mean_after": mean, "running_var_after": var, "output_eval": evaluated}


def batch_norm_then(shape, training, residual, relu, eps):
    """Normalization, then the sum with a residual and a ReLU, where asked for."""
    channels = shape[1]
    mean, var = draw(channels, scale=0.4), draw(channels, scale=0.2, shift=1.2).abs()

    def normalized(input, weight, bias, residual=0.0):
        # Copies: training moves the statistics that it is handed.
        statistics = (mean.clone(), var.clone())
        maps = F.batch_norm(input, *statistics, weight, bias, training, 0.1, eps) + residual
        return F.relu(maps) if relu else maps

    inputs = {"input": draw(*shape, scale=2.0, shift=0.7), "weight": draw(channels), "bias": draw(channels)}
    arrays = with_gradients(normalized, {**inputs, "residual": draw(*shape)} if residual else inputs)
    return {"mean": mean, "variance": var, **arrays}


def cross_entropy(logits, labels, smoothing):
    logits = leaf(logits)
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    return {"logits": logits, "labels": labels, "loss": loss, "grad_logits": logits.grad}


def main():
    fix_threads()
    cases, tensors = [], {}

    def add(name, op, arrays, **options):
        cases.append({"name": name, "op": op, **options, "arrays": list(arrays)})
        tensors.update({f"{name}.{array}": value for array, value in arrays.items()})

    add("max_pool_ties", "max_pool2d", max_pool((2, 3, 7, 8)), kernel=3, stride=2, padding=1)
    add("max_pool_ties_odd", "max_pool2d", max_pool((1, 2, 5, 5)), kernel=3, stride=2, padding=1)
    for name, input_shape, weight_shape, stride, padding in CONVOLUTIONS:
        arrays = convolution(input_shape, weight_shape, stride, padding)
        add(name, "conv2d", arrays, kernel=weight_shape[2], stride=stride, padding=padding)
    add("batch_norm", "batch_norm", batch_norm((4, 3, 5, 4), 0.1, 1e-5), momentum=0.1, eps=1e-5)
    add("batch_norm_one_pixel", "batch_norm", batch_norm((6, 5, 1, 1), 0.1, 1e-5), momentum=0.1, eps=1e-5)
    add("global_average_pool", "global_average_pool", average_pool((2, 3, 3, 5)))
    logits, labels = draw(6, 5, scale=3.0), torch.tensor([0, 4, 2, 2, 1, 3])
    add("cross_entropy", "cross_entropy", cross_entropy(logits, labels, 0.0), label_smoothing=0.0)
    add("cross_entropy_smoothed", "cross_entropy", cross_entropy(logits, labels, 0.1), label_smoothing=0.1)
    # Cases are added at the end, so that those above keep the values that they drew.
    add("max_pool_halving", "max_pool2d", max_pool((1, 5, 6, 9), 2, 2, 0), kernel=2, stride=2, padding=0)
    add("max_pool_dense", "max_pool2d", max_pool((2, 2, 4, 7), 3, 1, 1), kernel=3, stride=1, padding=1)
    add("global_average_pool_one_image", "global_average_pool", average_pool((1, 17, 7, 4)))
    add("linear", "linear", linear((5, 7), 3, bias=True))
    add("linear_one_row", "linear", linear((1, 9), 4, bias=True))
    add("linear_no_bias", "linear", linear((2, 3, 6), 5, bias=False))
    logits, labels = draw(1, 4, scale=10.0), torch.tensor([2])
    add("cross_entropy_one_row", "cross_entropy", cross_entropy(logits, labels, 0.0), label_smoothing=0.0)
    add("cross_entropy_even", "cross_entropy", cross_entropy(draw(3, 4), torch.tensor([1, 1, 0]), 1.0), label_smoothing=1.0)
    for name, input_shape, weight_shape, stride, padding, dilation, groups in SPREAD_CONVOLUTIONS:
        arrays = convolution(input_shape, weight_shape, stride, padding, dilation, groups)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        add(name, "conv2d", arrays, kernel=weight_shape[2], **options)
    for training in (True, False):
        for residual, relu in ((True, False), (False, True), (True, True)):
            name = "batch_norm_" + ("train" if training else "eval") + "_residual" * residual + "_relu" * relu
            arrays = batch_norm_then((3, 4, 5, 6), training, residual, relu, 1e-5)
            add(name, "batch_norm_then", arrays, training=training, residual=residual, relu=relu, eps=1e-5)

    write_json(FOLDER / "ops.json", {"versions": versions("torch"), "cases": cases})
    write_safetensors(FOLDER / "ops.safetensors", tensors, {"script": "tests/golden/ops.py"})


if __name__ == "__main__":
    main()
