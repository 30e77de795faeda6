"""resnet.json, resnet_*.safetensors: a tiny ResNet with torchvision's key names, both stems.

BasicBlock x [1, 1, 1, 1], widths [4, 8, 8, 16], strides [1, 2, 2, 2]; blocks that change size have
a `downsample` (1x1 convolution without bias, then batch norm), as torchvision's `ResNet`. Batch
norm: momentum 0.1, eps 1e-5. Global average pooling gives [4, 16] features; there is no `fc`.

- stem7: conv1 7x7, stride 2, padding 3; bn1; relu; max pooling 3x3, stride 2, padding 1.
- stem3: conv1 3x3, stride 1, padding 1; bn1; relu; no pooling.

`resnet_<stem>.safetensors` holds the weights only, as a checkpoint would (float32, the running
statistics are not those of a fresh model, num_batches_tracked int64). `resnet_<stem>_expected
.safetensors` holds `input` [4, 3, 20, 20], `loss_weights` [4, 16], and what follows from them:
`features_eval` (with the stored statistics), `features_train`, `after.<buffer>` (statistics after
that one training forward), and `grad.<parameter>` for some parameters of
`loss = sum(features_train * loss_weights)`. `resnet.json` has shapes and the losses.

Arithmetic in float64 from float32 values. The architecture is checked against torchvision's own
class before anything is stored. Made with torch 2.15.0 and torchvision 0.29.2.
Run: python tests/golden/resnet.py
"""

import numpy as np
import torch
import torchvision
from torch import nn

from golden_files import FOLDER, fix_threads, versions, write_json, write_safetensors

WIDTHS = [4, 8, 8, 16]
STRIDES = [1, 2, 2, 2]
BLOCKS = [1, 1, 1, 1]
GRADIENTS = [
    "conv1.weight",
    "bn1.weight",
    "bn1.bias",
    "layer1.0.conv1.weight",
    "layer1.0.bn2.weight",
    "layer2.0.conv1.weight",
    "layer2.0.downsample.0.weight",
    "layer2.0.downsample.1.bias",
    "layer3.0.bn1.bias",
    "layer4.0.conv2.weight",
    "layer4.0.bn2.bias",
]
STEMS = {"stem7": (7, 2, 3, True), "stem3": (3, 1, 1, False)}


class Block(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        if stride != 1 or n_in != n_out:
            conv = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(n_out))
        else:
            self.downsample = nn.Identity()

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class TinyResNet(nn.Module):
    def __init__(self, kernel, stride, padding, pool, widths=WIDTHS, blocks=BLOCKS):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        n_in = widths[0]
        for number, (width, stride, n) in enumerate(zip(widths, STRIDES, blocks), start=1):
            more = [Block(width, width, 1) for _ in range(n - 1)]
            setattr(self, f"layer{number}", nn.Sequential(Block(n_in, width, stride), *more))
            n_in = width

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x.mean(dim=(2, 3))


def check_against_torchvision():
    """The same module at torchvision's widths takes its weights and gives its features."""
    block = torchvision.models.resnet.BasicBlock
    images = torch.randn(2, 3, 45, 45, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for blocks in (BLOCKS, [2, 2, 2, 2]):
        theirs = torchvision.models.resnet.ResNet(block, blocks).double()
        theirs.fc = nn.Identity()
        ours = TinyResNet(*STEMS["stem7"], widths=[64, 128, 256, 512], blocks=blocks).double()
        ours.load_state_dict(theirs.state_dict())
        for mode in (True, False):
            difference = (theirs.train(mode)(images) - ours.train(mode)(images)).abs().max()
            assert difference < 1e-12, difference


def randomize(model, generator):
    """Float32 values for every parameter and statistic, of a size that keeps signals alive."""
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
            continue
        drawn = generator.normal(size=value.shape)
        if value.ndim == 4:
            drawn *= np.sqrt(2.0 / (value.shape[1] * value.shape[2] * value.shape[3]))
        elif name.endswith("running_var"):
            drawn = generator.uniform(0.5, 1.5, size=value.shape)
        elif name.endswith("weight"):
            drawn = 1.0 + 0.2 * drawn
        else:
            drawn *= 0.2
        value.copy_(torch.tensor(drawn.astype(np.float32)))


def case(name, seed):
    generator = np.random.default_rng(seed)
    model = TinyResNet(*STEMS[name]).double()
    randomize(model, generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.tensor(generator.normal(size=(4, 3, 20, 20)).astype(np.float32)).double()
    loss_weights = torch.tensor(generator.normal(size=(4, WIDTHS[-1])).astype(np.float32)).double()

    features_eval = model.eval()(images)
    features_train = model.train()(images)
    loss = (features_train * loss_weights).sum()
    loss.backward()

    expected = {
        "input": images,
        "loss_weights": loss_weights,
        "features_eval": features_eval,
        "features_train": features_train,
        **{f"after.{key}": value for key, value in model.named_buffers()},
        **{f"grad.{key}": model.get_parameter(key).grad for key in GRADIENTS},
    }
    header = {"script": "tests/golden/resnet.py"}
    write_safetensors(FOLDER / f"resnet_{name}.safetensors", weights, header)
    write_safetensors(FOLDER / f"resnet_{name}_expected.safetensors", expected, header)
    kernel, stride, padding, pool = STEMS[name]
    return {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "max_pool": pool,
        "loss": loss,
        "weights": {key: list(value.shape) for key, value in weights.items()},
    }


def main():
    fix_threads()
    check_against_torchvision()
    write_json(
        FOLDER / "resnet.json",
        {
            "versions": versions("torch", "torchvision"),
            "widths": WIDTHS,
            "blocks": BLOCKS,
            "strides": STRIDES,
            "stems": {name: case(name, seed) for seed, name in enumerate(STEMS, start=1)},
        },
    )


if __name__ == "__main__":
    main()
