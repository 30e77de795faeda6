"""The convolutional cases of encoders.py: bottleneck ResNet, wide ResNet, ConvNeXt, EfficientNetV2.

A tiny ResNet cannot be had from a library, whose stems have 64 channels; `TinyResNet` puts
torchvision's own blocks and forward pass under a narrower stem. No library has the wide ResNet of
Zagoruyko & Komodakis, 2016; `WideResNet` is it, with the names of their published code.
"""

from functools import partial

import numpy as np
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig

from encoder_golden import HEADER, copied, random_model, weights_path, write_case
from golden_files import write_safetensors

BLOCKS = [1, 2, 1, 1]
CHANNELS = [4, 6, 8, 12]
STEM_WIDTH = 3
WIDEN_FACTOR = 2
DEPTH = 16
DEPTHS = [1, 1, 2, 1]
DIMS = [8, 12, 20, 24]
# Expansion, kernel, stride, channels in and out, layers. Channels are multiples of 8, to which
# torchvision rounds the expanded ones even where the expansion is 1.
FUSED = [[1, 3, 1, 8, 8, 1], [4, 3, 2, 8, 24, 1]]
SQUEEZED = [[4, 3, 2, 24, 24, 2], [6, 3, 1, 24, 40, 1]]
LAST_CHANNEL = 56


class TinyResNet(torchvision.models.resnet.ResNet):
    """torchvision's ResNet of bottlenecks, with a stem as wide as the first stage's inside."""

    def __init__(self, blocks, channels):
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = channels[0], 1, 1, 64
        self.conv1 = nn.Conv2d(3, channels[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for number, (n, width) in enumerate(zip(blocks, channels), start=1):
            block = torchvision.models.resnet.Bottleneck
            layer = self._make_layer(block, width, n, stride=1 if number == 1 else 2)
            setattr(self, f"layer{number}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity()


def check_resnet():
    """At its own widths it is torchvision's ResNet-50, whose names are also timm's."""
    generator = np.random.default_rng(0)
    theirs = random_model(torchvision.models.resnet50(num_classes=1), generator)
    theirs.fc = nn.Identity()
    ours = TinyResNet([3, 4, 6, 3], [64, 128, 256, 512]).double().eval()
    ours.load_state_dict(theirs.state_dict())
    timms = timm.create_model("resnet50", num_classes=0).double().eval()
    timms.load_state_dict(theirs.state_dict())
    images = torch.tensor(generator.normal(size=(1, 3, 45, 37)))
    with torch.no_grad():
        assert (theirs(images) - ours(images)).abs().max() == 0
        assert (theirs(images) - timms(images)).abs().max() < 1e-9 * theirs(images).abs().max()


def resnet_bottleneck(name, seed):
    check_resnet()
    generator = np.random.default_rng(seed)
    model = random_model(TinyResNet(BLOCKS, CHANNELS), generator)
    about = {
        "class": "torchvision.models.resnet.ResNet of Bottleneck",
        "config": {"stem": "7x7", "blocks": BLOCKS, "channels": CHANNELS, "expansion": 4},
    }
    stages = ["maxpool", "layer1", "layer2", "layer3", "layer4"]
    keys = [
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "layer1.0.conv1.weight",
        "layer1.0.bn3.weight",
        "layer1.0.downsample.0.weight",
        "layer2.0.conv2.weight",
        "layer2.0.downsample.1.bias",
        "layer2.1.conv3.weight",
        "layer3.0.bn2.bias",
        "layer4.0.conv2.weight",
        "layer4.0.conv3.weight",
        "layer4.0.bn3.bias",
    ]
    return write_case(name, model, generator, (3, 3, 45, 37), stages, keys, about)


class WideBlock(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.changes_channels = n_in != n_out
        if self.changes_channels:
            self.convShortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x):
        activated = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(activated))))
        return y + (self.convShortcut(activated) if self.changes_channels else x)


class WideGroup(nn.Module):
    def __init__(self, n_in, n_out, stride, n_blocks):
        super().__init__()
        more = [WideBlock(n_out, n_out, 1) for _ in range(n_blocks - 1)]
        self.layer = nn.Sequential(WideBlock(n_in, n_out, stride), *more)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    """Three groups of (depth - 4) / 6 blocks; the stem has `width` channels."""

    def __init__(self, depth, widen_factor, width=16):
        super().__init__()
        n_blocks = (depth - 4) // 6
        widths = [width * widen_factor * factor for factor in (1, 2, 4)]
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.block1 = WideGroup(width, widths[0], 1, n_blocks)
        self.block2 = WideGroup(widths[0], widths[1], 2, n_blocks)
        self.block3 = WideGroup(widths[1], widths[2], 2, n_blocks)
        self.bn1 = nn.BatchNorm2d(widths[2])

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return torch.relu(self.bn1(x)).mean(dim=(2, 3))


def wide_resnet(name, seed):
    generator = np.random.default_rng(seed)
    model = random_model(WideResNet(DEPTH, WIDEN_FACTOR, STEM_WIDTH), generator)
    about = {
        "class": "WideResNet of tests/golden/encoders_conv.py",
        "config": {"depth": DEPTH, "widen_factor": WIDEN_FACTOR, "stem_width": STEM_WIDTH},
    }
    stages = ["conv1", "block1", "block2", "block3"]
    keys = [
        "conv1.weight",
        "block1.layer.0.bn1.weight",
        "block1.layer.0.conv1.weight",
        "block1.layer.0.convShortcut.weight",
        "block1.layer.1.bn1.bias",
        "block1.layer.1.conv2.weight",
        "block2.layer.0.bn1.bias",
        "block2.layer.0.convShortcut.weight",
        "block2.layer.0.bn2.weight",
        "block3.layer.0.conv1.weight",
        "block3.layer.1.conv2.weight",
        "bn1.weight",
        "bn1.bias",
    ]
    return write_case(name, model, generator, (3, 3, 17, 13), stages, keys, about)


def torchvision_convnext_name(key):
    """timm's name of a value in torchvision's ConvNeXt."""
    parts = key.split(".")
    if parts[0] == "stem":
        return ".".join(["features.0", *parts[1:]])
    if parts[0] == "head":
        return ".".join(["classifier.0", *parts[2:]])
    stage = int(parts[1])
    if parts[2] == "downsample":
        return ".".join([f"features.{2 * stage}", *parts[3:]])
    block = f"features.{2 * stage + 1}.{parts[3]}"
    if parts[4] == "gamma":
        return f"{block}.layer_scale"
    layers = {"conv_dw": "0", "norm": "2", "mlp.fc1": "3", "mlp.fc2": "5"}
    return f"{block}.block.{layers['.'.join(parts[4:-1])]}.{parts[-1]}"


def convnext(name, seed):
    generator = np.random.default_rng(seed)
    model = timm.models.convnext.ConvNeXt(depths=DEPTHS, dims=DIMS, num_classes=0)
    model = random_model(model, generator)
    weights = copied(model.state_dict())
    about = {
        "class": "timm.models.convnext.ConvNeXt",
        "config": {"depths": DEPTHS, "dims": DIMS, "patch_size": 4, "norm_eps": 1e-6},
    }
    stages = ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]
    keys = [
        "stem.0.weight",
        "stem.0.bias",
        "stem.1.weight",
        "stages.0.blocks.0.conv_dw.weight",
        "stages.0.blocks.0.conv_dw.bias",
        "stages.0.blocks.0.gamma",
        "stages.1.downsample.0.bias",
        "stages.1.downsample.1.weight",
        "stages.2.blocks.0.norm.weight",
        "stages.2.blocks.1.mlp.fc1.weight",
        "stages.2.blocks.1.mlp.fc2.bias",
        "stages.3.downsample.1.bias",
        "stages.3.blocks.0.mlp.fc2.weight",
        "stages.3.blocks.0.gamma",
        "head.norm.weight",
        "head.norm.bias",
    ]
    written = write_case(name, model, generator, (2, 3, 67, 47), stages, keys, about)
    write_torchvision_convnext(model.eval(), weights)
    return written


def write_torchvision_convnext(model, weights):
    """The same values under torchvision's names, which its own class loads and agrees about."""
    settings = zip(DIMS, [*DIMS[1:], None], DEPTHS)
    theirs = torchvision.models.convnext.ConvNeXt([CNBlockConfig(*of) for of in settings])
    theirs.classifier = theirs.classifier[:2]
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    named = {torchvision_convnext_name(key): value for key, value in weights.items()}
    named = {key: value.reshape(shapes[key]) for key, value in named.items()}
    theirs.double().eval().load_state_dict(named)
    images = torch.tensor(np.random.default_rng(0).normal(size=(2, 3, 67, 47)))
    with torch.no_grad():
        assert (theirs(images) - model(images)).abs().max() < 1e-12
    write_safetensors(weights_path("convnext_torchvision"), named, HEADER)


def efficientnet_v2(name, seed):
    generator = np.random.default_rng(seed)
    settings = [FusedMBConvConfig(*of) for of in FUSED] + [MBConvConfig(*of) for of in SQUEEZED]
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    model = EfficientNet(settings, 0.0, 0.0, norm_layer=norm, last_channel=LAST_CHANNEL)
    full = torchvision.models.efficientnet_v2_s(weights=None).features
    assert {layer.eps for layer in full.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-3}
    model.classifier = nn.Identity()
    model = random_model(model, generator)
    about = {
        "class": "torchvision.models.efficientnet.EfficientNet",
        "config": {
            "fused": FUSED,
            "squeezed": SQUEEZED,
            "last_channel": LAST_CHANNEL,
            "norm_eps": 1e-3,
            "norm_momentum": 0.1,
        },
    }
    stages = [f"features.{i}" for i in range(6)]
    keys = [
        "features.0.0.weight",
        "features.0.1.weight",
        "features.1.0.block.0.0.weight",
        "features.2.0.block.0.0.weight",
        "features.2.0.block.1.1.weight",
        "features.3.0.block.0.0.weight",
        "features.3.0.block.1.0.weight",
        "features.3.0.block.2.fc1.weight",
        "features.3.0.block.2.fc2.bias",
        "features.3.1.block.2.fc1.bias",
        "features.3.1.block.2.fc2.weight",
        "features.3.1.block.3.0.weight",
        "features.4.0.block.1.1.weight",
        "features.4.0.block.3.1.weight",
        "features.5.0.weight",
        "features.5.1.bias",
    ]
    return write_case(name, model, generator, (3, 3, 27, 21), stages, keys, about)
