"""The cases of encoders.py whose weights have the names of transformers or of DINOv2's own code.

transformers' names are those that `save_pretrained` writes, which the published files have; since
version 5 the modules in memory have others. In every case a timm model given the same values has
the same features: `own_names` makes DINOv2's names from transformers', and timm's own conversion
makes timm's from these. DINOv2's own code is not at hand to be run.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from encoder_golden import (
    HEADER,
    counts,
    expected_path,
    float32_normal,
    random_model,
    weights_path,
)
from golden_files import write_safetensors

SIZE = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=28, patch_size=7
)
N_REGISTERS = 3
TIMM = dict(img_size=28, patch_size=7, embed_dim=24, depth=2, num_heads=3, num_classes=0)
# What stands for one block of transformers' in one block of timm's and of DINOv2's.
BLOCK_NAMES = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}


def published(model) -> dict:
    """The model's values under the names that `save_pretrained` writes, in order of the names."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = load_file(Path(folder) / "model.safetensors")
    return {key: saved[key] for key in sorted(saved)}


def renamed(key: str) -> str:
    """transformers' key in DINOv2's own code, except for query, key and value."""
    owner, _, last = key.rpartition(".")
    if owner in NAMES:
        return f"{NAMES[owner]}.{last}"
    if key in NAMES:
        return NAMES[key]
    number, _, rest = key.removeprefix("encoder.layer.").partition(".")
    owner, _, last = rest.rpartition(".")
    if rest in BLOCK_NAMES:
        return f"blocks.{number}.{BLOCK_NAMES[rest]}"
    return f"blocks.{number}.{BLOCK_NAMES.get(owner, owner)}.{last}"


def own_names(weights: dict) -> dict:
    """transformers' weights under the names of DINOv2's own code."""
    own = {}
    for key, value in weights.items():
        if ".attention.attention." not in key:
            own[renamed(key)] = value
        elif ".query." in key:
            parts = [weights[key.replace("query", part)] for part in ("query", "key", "value")]
            qkv = key.replace("attention.attention.query", "attn.qkv")
            own[qkv.replace("encoder.layer", "blocks")] = torch.cat(parts)
    return own


def timm_features(own: dict, images, **config) -> torch.Tensor:
    """Features of timm's class, given values under DINOv2's own names."""
    model = VisionTransformer(**TIMM, **config).double().eval()
    # In float64, since timm adds the first row of the positions to the class token of registers.
    own = {key: value.double() for key, value in own.items()}
    model.load_state_dict(checkpoint_filter_fn(own, model))
    with torch.no_grad():
        return model(images)


def write_transformers(name, model, generator, **timm_config):
    """Weights, input and the class token of the last hidden state; all seen by timm as well."""
    model = random_model(model, generator)
    weights = published(model.float())
    model.double()
    images = float32_normal(generator, 2, 3, SIZE["image_size"], SIZE["image_size"])
    with torch.no_grad():
        features = model(images).last_hidden_state[:, 0]
    own = own_names(weights)
    timms = timm_features(own, images, **timm_config)
    assert (timms - features).abs().max() < 1e-12, (timms - features).abs().max()
    write_safetensors(weights_path(name), weights, HEADER)
    write_safetensors(expected_path(name), {"input": images, "features_eval": features}, HEADER)
    about = {
        "class": f"transformers.{type(model).__name__}",
        "config": {**SIZE, "mlp_hidden": 4 * SIZE["hidden_size"], "act": "GELU"},
        "input": list(images.shape),
        "features": list(features.shape),
        **counts(model),
        "n_keys": len(weights),
    }
    about["config"]["norm_eps"] = model.config.layer_norm_eps
    return about, own


def dinov2_transformers(name, seed):
    model = transformers.Dinov2Model(transformers.Dinov2Config(**SIZE, mlp_ratio=4))
    generator = np.random.default_rng(seed)
    about, _ = write_transformers(name, model, generator, init_values=1.0)
    return {name: about}


def vit_transformers(name, seed):
    config = transformers.ViTConfig(**SIZE, intermediate_size=4 * SIZE["hidden_size"])
    model = transformers.ViTModel(config, add_pooling_layer=False)
    norm = partial(LayerNorm, eps=config.layer_norm_eps)
    about, _ = write_transformers(name, model, np.random.default_rng(seed), norm_layer=norm)
    return {name: about}


def dinov2_registers_transformers(name, seed):
    """Also writes `dinov2_own`: the same values as DINOv2's own code names them."""
    config = transformers.Dinov2WithRegistersConfig(
        **SIZE, mlp_ratio=4, num_register_tokens=N_REGISTERS
    )
    model = transformers.Dinov2WithRegistersModel(config)
    registers = dict(init_values=1.0, reg_tokens=N_REGISTERS, no_embed_class=True)
    about, own = write_transformers(name, model, np.random.default_rng(seed), **registers)
    about["config"]["num_register_tokens"] = N_REGISTERS
    write_safetensors(weights_path("dinov2_own"), own, HEADER)
    about_own = {
        "class": "dinov2.models.vision_transformer.DinoVisionTransformer",
        "config": about["config"],
        "expected_of": name,
        "n_keys": len(own),
    }
    return {name: about, "dinov2_own": about_own}
