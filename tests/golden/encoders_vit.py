"""The vision transformer cases of encoders.py, of timm's own class."""

import numpy as np
import torch
from timm.layers import SwiGLUPacked, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from encoder_golden import HEADER, expected_path, float32_normal, random_model, write_case
from golden_files import write_safetensors

PLAIN = dict(img_size=28, patch_size=7, embed_dim=24, depth=2, num_heads=3, init_values=1.0)
REGISTERS = dict(
    img_size=42,
    patch_size=14,
    embed_dim=32,
    depth=2,
    num_heads=2,
    init_values=1.0,
    reg_tokens=3,
    no_embed_class=True,
    mlp_ratio=2.66667 * 2,
)
POSITIONED = dict(**PLAIN, reg_tokens=2, no_embed_class=False, global_pool="token")
NORM_EPS = 1e-6
STAGES = ["norm_pre", "blocks.0", "blocks.1", "norm"]
KEYS = [
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "blocks.0.norm1.weight",
    "blocks.0.norm1.bias",
    "blocks.0.attn.qkv.weight",
    "blocks.0.attn.qkv.bias",
    "blocks.0.attn.proj.weight",
    "blocks.0.attn.proj.bias",
    "blocks.0.ls1.gamma",
    "blocks.0.mlp.fc1.weight",
    "blocks.0.mlp.fc2.bias",
    "blocks.1.attn.qkv.weight",
    "blocks.1.norm2.weight",
    "blocks.1.mlp.fc1.bias",
    "blocks.1.mlp.fc2.weight",
    "blocks.1.ls2.gamma",
    "norm.weight",
    "norm.bias",
]


def check_attention(model, size):
    """torch's fused attention, which timm uses, is its written-out attention."""
    images = torch.tensor(np.random.default_rng(0).normal(size=size))
    with torch.no_grad():
        fused = model(images)
        for block in model.blocks:
            assert block.attn.fused_attn
            block.attn.fused_attn = False
        assert (model(images) - fused).abs().max() < 1e-12
    for block in model.blocks:
        block.attn.fused_attn = True


def about(config, **more) -> dict:
    assert all(layer.eps == NORM_EPS for layer in norms(VisionTransformer(num_classes=0, **config)))
    return {
        "class": "timm.models.vision_transformer.VisionTransformer",
        "config": {**config, **more, "norm_eps": NORM_EPS},
    }


def norms(model) -> list:
    return [layer for layer in model.modules() if isinstance(layer, nn.LayerNorm)]


def vit(name, seed):
    """Also writes the case that uses the same weights for larger images."""
    generator = np.random.default_rng(seed)
    model = random_model(VisionTransformer(num_classes=0, **PLAIN), generator)
    check_attention(model, (2, 3, 28, 28))
    larger = interpolated("vit_interpolated", model.state_dict(), generator, (2, 3, 42, 42))
    # Nothing uses these numbers; they are drawn so that the images of this case stay the same.
    float32_normal(generator, 2, 3, 21, 42)
    about_it = about(PLAIN, **plain_mlp(model))
    written = write_case(name, model, generator, (2, 3, 28, 28), STAGES, KEYS, about_it)
    return {name: written, "vit_interpolated": larger}


def plain_mlp(model) -> dict:
    return {"mlp": "Mlp", "act": "GELU", "mlp_hidden": model.blocks[0].mlp.fc1.out_features}


def vit_positioned_registers(name, seed):
    """The class token and the registers have rows of `pos_embed` too, as in Virchow2."""
    generator = np.random.default_rng(seed)
    model = random_model(VisionTransformer(num_classes=0, **POSITIONED), generator)
    size = (2, 3, 28, 28)
    check_attention(model, size)
    n_prefix = 1 + POSITIONED["reg_tokens"]
    assert model.pos_embed.shape == (1, n_prefix + 4 * 4, PLAIN["embed_dim"])
    about_it = about(POSITIONED, **plain_mlp(model))
    return {
        name: write_case(name, model, generator, size, STAGES, ["reg_token", *KEYS], about_it)
    }


def interpolated(name, weights, generator, size):
    """The embedding of positions is resampled; timm does that in float32 in any case."""
    model = VisionTransformer(num_classes=0, dynamic_img_size=True, **PLAIN).double().eval()
    model.load_state_dict(weights)
    images = float32_normal(generator, *size)
    patch = PLAIN["patch_size"]
    grid = [size[2] // patch, size[3] // patch]
    pos_embed = resample_abs_pos_embed(model.pos_embed, grid, num_prefix_tokens=1)
    with torch.no_grad():
        features = model(images)
    expected = {"input": images, "pos_embed": pos_embed, "features_eval": features}
    write_safetensors(expected_path(name), expected, HEADER)
    return {
        **about(PLAIN, dynamic_img_size=True, interpolation="bicubic", antialias=True),
        "weights_of": "vit",
        "input": list(size),
        "features": list(features.shape),
        "pos_embed": list(pos_embed.shape),
    }


def vit_registers(name, seed):
    """Features are the class token and the mean of the patch tokens, as Virchow2 is used."""
    generator = np.random.default_rng(seed)
    layers = dict(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU)
    model = random_model(VisionTransformer(num_classes=0, **REGISTERS, **layers), generator)
    check_attention(model, (2, 3, 42, 42))
    n_prefix = 1 + REGISTERS["reg_tokens"]

    def features(images):
        tokens = model.forward_features(images)
        return torch.cat([tokens[:, 0], tokens[:, n_prefix:].mean(dim=1)], dim=1)

    def class_token(images):
        return {"cls_eval": model(images)}

    mlp = {"mlp": "SwiGLUPacked", "act": "SiLU", "mlp_hidden": model.blocks[0].mlp.fc1.out_features}
    large = ["patch_embed.proj.weight", "blocks.1.attn.qkv.weight", "blocks.1.mlp.fc2.weight"]
    keys = ["reg_token", *(key for key in KEYS if key not in large)]
    about_it = about(REGISTERS, features="class token, then the mean of the patch tokens", **mlp)
    size = (2, 3, 42, 42)
    return {
        name: write_case(
            name, model, generator, size, STAGES, keys, about_it, features, class_token
        )
    }
