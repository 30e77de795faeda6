"""The peers of `cargo xtask benchmark kernels`: PyTorch, torchvision, timm,
pytorch-metric-learning.

Reads one JSON object a line from standard input and answers each with one on standard output:

    {"ask": "hello", "threads": 2}                            -> {"missing": [], "versions": {...}}
    {"ask": "prepare", "layout": "channels_last", "work": {}} -> {}
    {"ask": "run", "layout": "channels_last", "calls": 3}     -> {"seconds": 0.5}
    {"ask": "memory", "layout": "channels_last", "calls": 2}  -> {"mib": 100.0}
    {"ask": "forget"}                                         -> {}

Both layouts of a row can be prepared at a time. A question that fails is answered with
{"error": "..."}. The work is that of `xtask/src/commands/benchmark/kernels/rows.rs`.
"""

import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "pytorch_metric_learning": "pytorch-metric-learning",
}
N_CLASSES = 9
OUTPUTS = 64


def hello(threads):
    missing = [name for module, name in PACKAGES.items() if not importlib.util.find_spec(module)]
    if missing:
        return {"missing": missing}
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES.values()}
    return {"missing": [], "versions": {"python": platform.python_version(), **versions}}


def prepare(work, layout):
    """The function that makes one call of a row."""
    import torch

    formats = {"channels_last": torch.channels_last, "default": torch.contiguous_format}
    kind, memory_format = work["kind"], formats[layout]
    if kind == "supcon":
        return supcon(work["n"], work["dim"])
    if kind in ("train", "inference"):
        return network_call(work, memory_format)
    return operation_call(work, memory_format)


def supcon(n, dim):
    import torch
    from pytorch_metric_learning.losses import SupConLoss

    loss = SupConLoss(temperature=0.2)
    embeddings = torch.randn(n, dim, requires_grad=True)
    labels = torch.arange(n) % N_CLASSES

    def call():
        embeddings.grad = None
        loss(embeddings, labels).backward()

    return call


def network_call(work, memory_format):
    import torch

    model = network(work["encoder"]).to(memory_format=memory_format)
    images = torch.randn(work["batch"], 3, work["size"], work["size"])
    images = images.to(memory_format=memory_format)
    labels = torch.arange(work["batch"]) % OUTPUTS
    if work["kind"] == "inference":
        model.eval()

        def infer():
            with torch.inference_mode():
                model(images)

        return infer

    model.train()
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-4, weight_decay=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def network(encoder):
    import timm
    import torchvision

    if encoder == "resnet-slim":
        return slim()
    if encoder == "wide-resnet28-2":
        return wide_resnet()
    if encoder == "efficientnet-v2-s":
        model = torchvision.models.efficientnet_v2_s(num_classes=OUTPUTS, dropout=0.0)
        for module in model.modules():
            if isinstance(module, torchvision.ops.StochasticDepth):
                module.p = 0.0
        return model
    if encoder in TIMM:
        name, options = TIMM[encoder]
        return timm.create_model(name, num_classes=OUTPUTS, **options)
    if encoder.startswith("resnet"):
        return getattr(torchvision.models, encoder)(num_classes=OUTPUTS)
    raise ValueError(f"unknown encoder {encoder!r}")


TIMM = {
    "convnext-tiny": ("convnext_tiny", {}),
    "vit-small-14-dinov2": ("vit_small_patch14_dinov2", {"img_size": 224}),
    "vit-base-16": ("vit_base_patch16_224", {}),
    "vit-large-14-dinov2": ("vit_large_patch14_dinov2", {"img_size": 224}),
}


def wide_resnet():
    """WRN-28-2: three groups of four blocks that normalize before they convolve."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(width)
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            is_same = before == width
            self.shortcut = None if is_same else nn.Conv2d(before, width, 1, stride, bias=False)

        def forward(self, maps):
            normal = torch.relu_(self.bn1(maps))
            beside = maps if self.shortcut is None else self.shortcut(normal)
            return beside + self.conv2(torch.relu_(self.bn2(self.conv1(normal))))

    layers, before = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
    for group, width in enumerate([32, 64, 128]):
        for index in range(4):
            layers.append(Block(before, width, 2 if group > 0 and index == 0 else 1))
            before = width
    head = [nn.BatchNorm2d(before), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Linear(before, OUTPUTS))


def slim():
    """One basic block a stage behind a 3x3 stem, with 16 to 128 channels."""
    from torch import nn
    from torchvision.models.resnet import BasicBlock

    widths = [16, 32, 64, 128]
    layers = [nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])]
    layers += [nn.ReLU(inplace=True), BasicBlock(widths[0], widths[0])]
    for before, width in zip(widths, widths[1:]):
        halve = nn.Conv2d(before, width, 1, stride=2, bias=False)
        shortcut = nn.Sequential(halve, nn.BatchNorm2d(width))
        layers.append(BasicBlock(before, width, stride=2, downsample=shortcut))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], OUTPUTS)]
    return nn.Sequential(*layers, *head)


def operation_call(work, memory_format):
    import torch

    backward = work["kind"] == "backward"
    size, channels = work["size"], work["channels"]
    maps = torch.randn(work["batch"], channels, size, size).contiguous(memory_format=memory_format)
    function = torch.nn.functional
    if work["op"] == "conv2d":
        weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=memory_format)
        operands = [maps, weight]
        operate = lambda maps, weight: function.conv2d(maps, weight, padding=1)
    elif work["op"] == "batch-norm":
        operands = [maps, torch.randn(channels), torch.randn(channels)]
        operate = lambda maps, weight, bias: function.batch_norm(
            maps, None, None, weight, bias, training=True
        )
    elif work["op"] == "max-pool":
        operands = [maps]
        operate = lambda maps: function.max_pool2d(maps, 3, stride=2, padding=1)
    else:
        raise ValueError(f"unknown operation {work['op']!r}")

    if not backward:

        def forward():
            with torch.inference_mode():
                operate(*operands)

        return forward

    for operand in operands:
        operand.requires_grad_()
    gradient = torch.ones_like(operate(*operands).detach())

    def forward_backward():
        torch.autograd.grad(operate(*operands), operands, gradient)

    return forward_backward


def seconds(call, calls):
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - started


def peak_mib(call, calls):
    """Resident memory at its peak above that before the first call; None if nothing tells it."""
    try:
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        before = status_kib("VmRSS")
        seconds(call, calls)
        return (status_kib("VmHWM") - before) / 1024
    except OSError:
        return None


def status_kib(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise OSError(f"no {field}")


def answer(question, prepared):
    ask = question["ask"]
    if ask == "hello":
        return hello(question["threads"])
    if ask == "forget":
        prepared.clear()
        gc.collect()
        return {}
    layout = question["layout"]
    if ask == "prepare":
        prepared[layout] = prepare(question["work"], layout)
        return {}
    if ask == "run":
        return {"seconds": seconds(prepared[layout], question["calls"])}
    if ask == "memory":
        return {"mib": peak_mib(prepared[layout], question["calls"])}
    raise ValueError(f"unknown question {ask!r}")


def main():
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepared = {}
    for line in sys.stdin:
        try:
            text = json.dumps(answer(json.loads(line), prepared))
        except Exception as error:
            reason = " ".join(str(error).split())
            text = json.dumps({"error": f"{type(error).__name__}: {reason}"})
        print(text, file=answers, flush=True)


if __name__ == "__main__":
    main()
