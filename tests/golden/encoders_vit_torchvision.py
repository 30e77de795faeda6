"""The case of encoders.py whose weights have the names of torchvision's vision transformer.

The features are the class token after `encoder.ln`. torchvision's class returns only what its head
makes of them, so the head's weights are in the file, as in published ones, and unused. A timm
model without layer scale that is given the same values has the same features.
"""

import numpy as np
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from encoder_golden import (
    HEADER,
    copied,
    counts,
    expected_path,
    float32_normal,
    random_model,
    stage_outputs,
    weights_path,
)
from encoders_other_names import timm_features
from golden_files import write_safetensors

SIZE = dict(image_size=28, patch_size=7, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=96)
N_CLASSES = 5
NORM_EPS = 1e-6
NAMES = {
    "class_token": "cls_token",
    "conv_proj.": "patch_embed.proj.",
    "encoder.pos_embedding": "pos_embed",
    "encoder.ln.": "norm.",
    "encoder.layers.encoder_layer_": "blocks.",
    ".ln_1.": ".norm1.",
    ".ln_2.": ".norm2.",
    ".self_attention.in_proj_": ".attn.qkv.",
    ".self_attention.out_proj.": ".attn.proj.",
    ".mlp.0.": ".mlp.fc1.",
    ".mlp.3.": ".mlp.fc2.",
}


def timm_names(weights: dict) -> dict:
    """torchvision's weights under timm's names, without the head."""
    renamed = {}
    for key, value in weights.items():
        if key.startswith("heads."):
            continue
        for theirs, timms in NAMES.items():
            key = key.replace(theirs, timms)
        renamed[key] = value
    return renamed


def vit_torchvision(name, seed):
    generator = np.random.default_rng(seed)
    model = random_model(VisionTransformer(**SIZE, num_classes=N_CLASSES), generator)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.LayerNorm)]
    assert all(layer.eps == NORM_EPS for layer in norms)
    images = float32_normal(generator, 2, 3, SIZE["image_size"], SIZE["image_size"])
    features = stage_outputs(model, images, ["encoder.ln"])[0][:, 0]
    weights = copied(model.state_dict())
    timms = timm_features(timm_names(weights), images)
    assert (timms - features).abs().max() < 1e-12, (timms - features).abs().max()
    write_safetensors(weights_path(name), weights, HEADER)
    write_safetensors(expected_path(name), {"input": images, "features_eval": features}, HEADER)
    about = {
        "class": "torchvision.models.vision_transformer.VisionTransformer",
        "config": {**SIZE, "num_classes": N_CLASSES, "act": "GELU", "norm_eps": NORM_EPS},
        "input": list(images.shape),
        "features": list(features.shape),
        **counts(model),
    }
    return {name: about}
