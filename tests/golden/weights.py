"""Files of weights as other libraries write them, and what must be read from them.

    torch 2.11.0, torchvision 0.26.0, timm 1.0.31, transformers 5.24.0, safetensors

In `weights/`: for each source of names a tiny model with random weights as that library saves it
(`NAME.safetensors`), and the same weights under timm's or torchvision's names (`NAME_ours`). The
two models are run on the same images before anything is written: their outputs agree, so the
names do. `torch_*` are made by `torch.save` to be read or refused, `weights.json` has the values
of those that are read. `resample.json`, for the crate that reads it, has position embeddings that
torch resampled.
"""

import argparse
import collections
import fractions
import pathlib
import tempfile

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer

from golden_files import FOLDER, fix_threads, versions, write_json

PLACE = FOLDER / "weights"
CRATE = FOLDER.parent.parent / "crates" / "s5cl-backbone" / "tests" / "golden"


def randomize(model):
    """Every weight and statistic is random, so that no two tensors can be confused."""
    generator = torch.Generator().manual_seed(6)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return model.eval()


def saved(model) -> dict:
    """The tensors of the file that transformers itself writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(pathlib.Path(folder) / "model.safetensors")


def pair(name, theirs, ours, their_tensors, our_tensors, their_output, our_output):
    """Writes both files if both models give the same."""
    ours.load_state_dict(our_tensors)
    ours.eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected, got = their_output(theirs, images), our_output(ours, images)
    assert torch.allclose(expected, got, atol=1e-5), (name, (expected - got).abs().max())
    tensors = {k: v.contiguous() for k, v in their_tensors.items()}
    save_file(tensors, PLACE / f"{name}.safetensors")
    kept = {k: v.contiguous() for k, v in ours.state_dict().items() if "num_batches" not in k}
    save_file(kept, PLACE / f"{name}_ours.safetensors")


def renamed(tensors: dict, words: list) -> dict:
    """Names with words replaced, one after the other."""
    result = {}
    for name, tensor in tensors.items():
        for old, new in words:
            name = name.replace(old, new)
        result[name] = tensor
    return result


def fused(tensors: dict) -> dict:
    """Query, key and value of each block as one tensor."""
    result = {}
    for name, tensor in tensors.items():
        if ".query." in name:
            parts = [tensors[name.replace("query", part)] for part in ("query", "key", "value")]
            result[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
        elif ".key." not in name and ".value." not in name:
            result[name] = tensor
    return result


VIT = [
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.", ""),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense", "attn.proj"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("layernorm", "norm"),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("mlp.weights_in", "mlp.fc1"),
    ("mlp.weights_out", "mlp.fc2"),
    ("register_tokens", "reg_token"),
]
SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2}
THEIRS = {"image_size": 32, "patch_size": 8, "hidden_size": 8, "num_hidden_layers": 2}
THEIRS |= {"num_attention_heads": 2, "layer_norm_eps": 1e-6}


def vit_models():
    config = transformers.ViTConfig(**THEIRS, intermediate_size=32, hidden_act="gelu")
    theirs = randomize(transformers.ViTModel(config, add_pooling_layer=True))
    ours = VisionTransformer(**SHAPE, num_classes=0)
    tensors = saved(theirs)
    mapped = {k: v for k, v in renamed(fused(tensors), VIT).items() if "pooler" not in k}
    hidden = lambda model, images: model(pixel_values=images).last_hidden_state
    features = lambda model, images: model.forward_features(images)
    pair("transformers_vit", theirs, ours, tensors, mapped, hidden, features)

    config = transformers.Dinov2Config(**THEIRS, use_swiglu_ffn=True)
    theirs = randomize(transformers.Dinov2Model(config))
    swiglu = {"mlp_layer": timm.layers.SwiGLUPacked, "mlp_ratio": 48 / 8, "act_layer": torch.nn.SiLU}
    ours = VisionTransformer(**SHAPE, **swiglu, init_values=1e-5, num_classes=0)
    tensors = saved(theirs)
    mapped = {k: v for k, v in renamed(fused(tensors), VIT).items() if k != "mask_token"}
    pair("transformers_dinov2_swiglu", theirs, ours, tensors, mapped, hidden, features)

    config = transformers.Dinov2WithRegistersConfig(**THEIRS, num_register_tokens=3)
    theirs = randomize(transformers.Dinov2WithRegistersModel(config))
    with_registers = {"reg_tokens": 3, "no_embed_class": True, "init_values": 1e-5}
    ours = VisionTransformer(**SHAPE, **with_registers, num_classes=0)
    tensors = saved(theirs)
    mapped = {k: v for k, v in renamed(fused(tensors), VIT).items() if k != "mask_token"}
    mapped["cls_token"] = mapped["cls_token"] + mapped["pos_embed"][:, :1]
    mapped["pos_embed"] = mapped["pos_embed"][:, 1:]
    pair("transformers_dinov2_registers", theirs, ours, tensors, mapped, hidden, features)

    # DINOv2's own code is no package: its names are made of timm's, and timm reads them back.
    own = {"mask_token": torch.zeros(1, 8), "register_tokens": mapped["reg_token"]}
    own["pos_embed"] = saved(theirs)["embeddings.position_embeddings"]
    own["cls_token"] = saved(theirs)["embeddings.cls_token"]
    own |= {k: v for k, v in mapped.items() if k not in (*own, "reg_token")}
    read_back = timm.models.vision_transformer.checkpoint_filter_fn(dict(own), ours)
    assert all(torch.equal(read_back[k], v) for k, v in ours.state_dict().items())
    chunked = {k.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): v
               for k, v in own.items()}
    save_file({k: v.contiguous() for k, v in chunked.items()}, PLACE / "dinov2_own.safetensors")


def convolutional_models():
    config = transformers.ConvNextConfig(hidden_sizes=[4, 8, 8, 12], depths=[1, 1, 2, 1])
    theirs = randomize(transformers.ConvNextModel(config))
    words = [
        ("embeddings.patch_embeddings", "stem.0"),
        ("embeddings.layernorm", "stem.1"),
        ("encoder.", ""),
        ("downsampling_layer", "downsample"),
        ("layers.", "blocks."),
        ("dwconv", "conv_dw"),
        ("pwconv1", "mlp.fc1"),
        ("pwconv2", "mlp.fc2"),
        ("layer_scale_parameter", "gamma"),
    ]
    mapped = renamed(saved(theirs), words)
    mapped = {("head.norm" + k[9:] if k.startswith("layernorm") else k).replace(
        "layernorm", "norm"): v for k, v in mapped.items()}
    shape = {"depths": (1, 1, 2, 1), "dims": (4, 8, 8, 12), "num_classes": 0}
    pooled = lambda model, images: model(pixel_values=images).pooler_output.flatten(1)
    call = lambda model, images: model(images)
    pair("transformers_convnext", theirs, ConvNeXt(**shape), saved(theirs), mapped, pooled, call)

    block = torchvision.models.convnext.CNBlockConfig
    blocks = [block(4, 8, 1), block(8, 8, 1), block(8, 12, 2), block(12, None, 1)]
    theirs = randomize(torchvision.models.ConvNeXt(blocks, num_classes=3))
    tensors = theirs.state_dict()
    mapped = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "classifier":
            if parts[1] == "0":
                mapped[f"head.norm.{parts[-1]}"] = tensor
            continue
        stage, rest = int(parts[1]), parts[2:]
        if stage == 0:
            mapped[f"stem.{'.'.join(rest)}"] = tensor
        elif stage % 2 == 0:
            mapped[f"stages.{stage // 2}.downsample.{'.'.join(rest)}"] = tensor
        elif rest[1] == "layer_scale":
            mapped[f"stages.{stage // 2}.blocks.{rest[0]}.gamma"] = tensor.flatten()
        else:
            layer = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}[rest[2]]
            mapped[f"stages.{stage // 2}.blocks.{rest[0]}.{layer}.{rest[-1]}"] = tensor
    encoding = lambda model, images: model.classifier[:2](model.avgpool(model.features(images)))
    pair("torchvision_convnext", theirs, ConvNeXt(**shape), tensors, mapped, encoding, call)

    sizes = {"embedding_size": 4, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 2, 1, 1]}
    config = transformers.ResNetConfig(**sizes, layer_type="bottleneck")
    theirs = randomize(transformers.ResNetForImageClassification(config))
    mapped = {}
    for name, tensor in saved(theirs).items():
        name = name.replace("embedder.embedder.convolution", "conv1")
        name = name.replace("embedder.embedder.normalization", "bn1").removeprefix("resnet.")
        for stage in range(4):
            name = name.replace(f"encoder.stages.{stage}.layers", f"layer{stage + 1}")
        name = name.replace("shortcut.convolution", "downsample.0")
        name = name.replace("shortcut.normalization", "downsample.1")
        for layer in range(3):
            name = name.replace(f"layer.{layer}.convolution", f"conv{layer + 1}")
            name = name.replace(f"layer.{layer}.normalization", f"bn{layer + 1}")
        if not name.startswith("classifier"):
            mapped[name] = tensor
    ours = timm.models.resnet.ResNet(
        timm.models.resnet.Bottleneck, (1, 2, 1, 1), num_classes=0, channels=(2, 4, 4, 8))
    # The stem has 64 channels whatever one asks for.
    ours.conv1 = torch.nn.Conv2d(3, 4, 7, 2, 3, bias=False)
    ours.bn1 = torch.nn.BatchNorm2d(4)
    ours.layer1[0].conv1 = torch.nn.Conv2d(4, 2, 1, bias=False)
    ours.layer1[0].downsample[0] = torch.nn.Conv2d(4, 8, 1, bias=False)
    pooled = lambda model, images: model.resnet(images).pooler_output.flatten(1)
    pair("transformers_resnet", theirs, ours, saved(theirs), mapped, pooled, call)


def torch_files() -> dict:
    """Files to be read, with the values that must come out, and files to be refused."""
    base = torch.arange(24, dtype=torch.float32) / 8 - 1
    tensors = {
        "f32": base.reshape(2, 3, 4),
        "f16": base[:6].half(),
        "bf16": base[:6].bfloat16(),
        "f64": base[:6].double(),
        "transposed": base.reshape(4, 6).t(),
        "permuted": base.reshape(2, 3, 4).permute(2, 0, 1),
        "row": base.reshape(4, 6)[2],
        "column": base.reshape(4, 6)[:, 1],
        "scalar": base[3],
        "empty": base[:0],
        "parameter": torch.nn.Parameter(base[4:8]),
    }
    state = collections.OrderedDict(tensors)
    state["count"] = torch.tensor(7)
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    torch.save(state, PLACE / "torch_plain.pth")
    torch.save(state, PLACE / "torch_protocol4.pth", pickle_protocol=4)
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(rate=0.1, size=torch.Size([2]), path=pathlib.PurePosixPath("a")),
        "best": np.float64(0.5),
        "history": np.arange(3),
        "large": 1 << 80,
        "dtype": torch.bfloat16,
        "seen": {1, 2},
        "options": collections.defaultdict(list, {"a": [1]}),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        "teacher": {"module.backbone.norm.weight": base[:2], "module.backbone.norm.bias": base[2:4]},
        "student": {"module.backbone.norm.weight": base[4:6], "module.backbone.norm.bias": base[6:8]},
    }
    torch.save(checkpoint, PLACE / "torch_checkpoint.pth")
    torch.save({"w": base, "fraction": fractions.Fraction(1, 2)}, PLACE / "torch_foreign.pth")
    torch.save(randomize(torch.nn.Linear(2, 2)), PLACE / "torch_module.pth")
    torch.save({"epoch": 1, "args": {"a": 2}}, PLACE / "torch_empty.pth")
    torch.save({"w": base[:1].expand(1000)}, PLACE / "torch_expanded.pth")
    return {name: tensor.float().flatten() for name, tensor in tensors.items()}


def resampled() -> list:
    """One vector of 3 values a patch, of one grid and of another; both f32."""
    generator = torch.Generator().manual_seed(8)
    cases = []
    for old, new in [(4, (7, 7)), (7, (4, 4)), (5, (3, 8)), (2, (5, 1)), (6, (6, 6)), (9, (2, 2))]:
        before = torch.randn(1, old * old, 3, generator=generator)
        # timm computes in f32; in f64 the same call of torch is exact enough to be golden.
        grid = before.double().reshape(1, old, old, 3).permute(0, 3, 1, 2)
        after = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", antialias=True)
        after = after.permute(0, 2, 3, 1).reshape(1, -1, 3).float()
        timms = resample_abs_pos_embed(before, list(new), num_prefix_tokens=0)
        assert torch.allclose(timms, after, atol=1e-5)
        cases.append({"old": [old, old], "new": list(new), "before": before.flatten(),
                      "after": after.flatten()})
    return cases


if __name__ == "__main__":
    fix_threads()
    PLACE.mkdir(exist_ok=True)
    vit_models()
    convolutional_models()
    used = versions("torch", "torchvision", "timm", "transformers")
    write_json(FOLDER / "weights.json", {"versions": used, "tensors": torch_files()})
    CRATE.mkdir(parents=True, exist_ok=True)
    write_json(CRATE / "resample.json", {"versions": versions("torch"), "cases": resampled()})
