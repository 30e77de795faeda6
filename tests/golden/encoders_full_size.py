"""`full_size` of encoders.json: what the parameters of whole architectures are, by their library.

Built without weights (torch's meta device). A listing has one line `key [d0, d1]` for every
key of the state dict, ended by a newline, sorted by bytes; it has the running statistics of batch
normalization, not its num_batches_tracked, and not the classifier. `sha256` is that of the lines
together, `n_keys` their number; `n_parameters` counts values without the running statistics.
"""

import hashlib

import timm
import torch
import torchvision

from encoders_conv import WideResNet

TORCHVISION = ["resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_v2_s"]
# With the classifier's keys of each.
TIMM = {
    "convnext_tiny": "head.fc.",
    "vit_small_patch14_dinov2": "head.",
    "vit_base_patch14_dinov2": "head.",
    "vit_large_patch14_dinov2": "head.",
    "vit_small_patch14_reg4_dinov2": "head.",
    "vit_small_patch16_224": "head.",
    "vit_base_patch16_224": "head.",
}
STATISTICS = ("running_mean", "running_var")


def listing(model, head) -> dict:
    """The shapes by key, without the classifier and the counters of batches."""
    return {
        key: list(value.shape)
        for key, value in model.state_dict().items()
        if not key.startswith(head) and not key.endswith("num_batches_tracked")
    }


def summary(library, model, head) -> dict:
    shapes = listing(model, head)
    lines = sorted(f"{key} {shape}\n" for key, shape in shapes.items())
    parameters = [value for key, value in model.named_parameters() if not key.startswith(head)]
    counted = [key for key in shapes if not key.endswith(STATISTICS)]
    assert len(parameters) == len(counted)
    return {
        "library": library,
        "n_keys": len(shapes),
        "n_parameters": sum(value.numel() for value in parameters),
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
    }


def full_size() -> dict:
    summaries = {}
    with torch.device("meta"):
        for name in TORCHVISION:
            model = torchvision.models.get_model(name, weights=None)
            head = "classifier." if name.startswith("efficientnet") else "fc."
            summaries[name] = summary("torchvision", model, head)
            if name.startswith("resnet"):
                assert listing(timm.create_model(name), "fc.") == listing(model, "fc.")
        for name, head in TIMM.items():
            model = timm.create_model(name)
            summaries[name] = summary("timm", model, head)
            if name.startswith("vit"):
                summaries[name]["image_size"] = model.patch_embed.img_size[0]
        summaries["wide_resnet28_2"] = summary("encoders_conv.py", WideResNet(28, 2), "fc.")
    # The known size of WRN-28-2 is with a classifier of 10 classes.
    assert summaries["wide_resnet28_2"]["n_parameters"] + 128 * 10 + 10 == 1_467_610
    return summaries
