"""resnet18_*.safetensors: three steps of training a narrow ResNet-18, with both stems.

The topology is torchvision's ResNet-18, two basic blocks a stage (`TinyResNet` of `resnet.py`, which
is checked against torchvision there). The widths are [32, 32, 16, 16], and the maps of the first
stage large enough that a convolution pays which transforms tiles of them.

Nothing that goes in is stored: images [3, 3, height, width], loss weights, and every parameter and
statistic are drawn as `draw` says, with the seeds of `IMAGES`, 2, and 3 + the place of the key in the
sorted keys (num_batches_tracked left out).

A step: `loss = sum(features * loss_weights)` in training mode, then plain SGD with `RATE`.

`resnet18_<stem>.safetensors` holds `features_eval` before the first step, `features.<step>` of each
of the three, `grad.<parameter>` of the first step for every parameter, `after.<buffer>` the running
statistics after the third, and `features_after` in evaluation mode behind it.

Arithmetic in float64 from float32 values. Made with torch 2.15.0 and torchvision 0.29.2.
Run: python tests/golden/resnet18.py
"""

from unittest import mock

import numpy as np
import torch

from golden_files import FOLDER, fix_threads, write_safetensors
from resnet import STEMS, TinyResNet

WIDTHS = [32, 32, 16, 16]
BLOCKS = [2, 2, 2, 2]
# Height, width and seed of the images. No input of a ReLU comes as close to zero as f32 errs, or
# gradients would depend on the order of sums.
IMAGES = {"stem7": (122, 138, 101), "stem3": (31, 47, 103)}
CLOSEST = 1e-6
BATCH = 3
STEPS = 3
RATE = 0.002


def draw(seed, shape):
    """Values in [-1, 1): 24 upper bits of a linear congruential generator, the first 8 skipped."""
    state, values = seed, []
    for _ in range(8 + int(np.prod(shape))):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append((state >> 40) / 2**23 - 1.0)
    return np.array(values[8:]).reshape(shape)


def initial(key, seed, shape):
    """Scaled in float64, then rounded to float32."""
    values = draw(seed, shape)
    if len(shape) == 4:
        values = values * np.sqrt(6.0 / np.prod(shape[1:]))
    elif key.endswith("running_var"):
        values = 1.0 + 0.5 * values
    elif key.endswith("weight"):
        values = 1.0 + 0.25 * values
    else:
        values = 0.25 * values
    return torch.tensor(values.astype(np.float32)).double()


def checked_relu(maps, relu=torch.relu):
    assert maps.detach().abs().min() > CLOSEST
    return relu(maps)


def case(name):
    model = TinyResNet(*STEMS[name], widths=WIDTHS, blocks=BLOCKS).double()
    keys = sorted(key for key in model.state_dict() if not key.endswith("num_batches_tracked"))
    for place, key in enumerate(keys):
        value = model.state_dict()[key]
        value.copy_(initial(key, 3 + place, tuple(value.shape)))
    height, width, seed = IMAGES[name]
    images = torch.tensor(draw(seed, (BATCH, 3, height, width)))
    loss_weights = torch.tensor(draw(2, (BATCH, WIDTHS[-1])))

    expected = {"features_eval": model.eval()(images)}
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    model.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        with mock.patch.object(torch, "relu", checked_relu):
            features = model(images)
        (features * loss_weights).sum().backward()
        expected[f"features.{step}"] = features
        if step == 0:
            for key, parameter in model.named_parameters():
                expected[f"grad.{key}"] = parameter.grad.clone()
        optimizer.step()
    for key, value in model.named_buffers():
        if not key.endswith("num_batches_tracked"):
            expected[f"after.{key}"] = value.clone()
    expected["features_after"] = model.eval()(images)
    header = {"script": "tests/golden/resnet18.py"}
    write_safetensors(FOLDER / f"resnet18_{name}.safetensors", expected, header)


def main():
    fix_threads()
    for name in STEMS:
        case(name)


if __name__ == "__main__":
    main()
