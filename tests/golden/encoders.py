"""encoders.json, encoder_*.safetensors, encoder_*.pth: tiny encoders of every kind.

For each case NAME:

- `encoder_NAME.safetensors`: the weights only, float32 under the keys of the library's state
  dict, with running statistics that are not those of a fresh model (num_batches_tracked int64);
- `encoder_NAME_expected.safetensors`: `input` [B, 3, H, W]; `stage.<i>`, the output of each stage
  in evaluation mode, channels first or [B, tokens, D]; `features_eval`; `features_train` (batch
  statistics; no dropout, no stochastic depth); `loss_weights`; `grad.<key>` of some parameters and
  `grad.input` for `loss = sum(features_train * loss_weights)`; and for networks with batch norm
  `after.<key>`, the running statistics after that one training forward.

`encoders.json`, `cases`: the library's class and its configuration, the names of the stages (those
of its modules) with their shapes, the loss, and numbers of keys; `full_size`: listings of whole
architectures, see encoders_full_size.py; `pth`: the files of torch.save.

| case | of | what is special |
|---|---|---|
| resnet_bottleneck | torchvision's blocks | stride in the 3x3 convolution |
| wide_resnet | Zagoruyko & Komodakis | both kinds of shortcut |
| convnext | timm | also convnext_torchvision: weights by torchvision's names |
| efficientnet_v2 | torchvision | epsilon of batch norm 1e-3 |
| vit | timm | layer scale; features are the class token |
| vit_registers | timm | registers, SwiGLU; also `cls_eval`, the class token alone |
| vit_interpolated | vit's weights | only `input`, `pos_embed`, `features_eval` |
| dinov2_transformers | transformers | only `input`, `features_eval` |
| vit_transformers | transformers | the same; no layer scale |
| dinov2_registers_transformers | transformers | the same; registers |
| dinov2_own | DINOv2's own code | weights of the case before, which has the features |
| vit_positioned_registers | timm | registers, with positions for them and the class token |
| vit_torchvision | torchvision | only `input`, `features_eval`; no layer scale; weights of a head |

`encoder_resnet_bottleneck.pth` holds that case's values as a DataParallel training would save
them. `encoder_bystanders.pth` has the arguments of a training beside its tensor, an
argparse.Namespace, as checkpoints often do. `encoder_old_format.pth` and
`encoder_foreign_class.pth`, with an object of a class that no checkpoint has, are to be refused.

Arithmetic in float64 from float32 values; only timm's resampled `pos_embed` is float32's. The
libraries' own classes are used, or what stands for them is compared with them first. Made with
torch 2.11.0, torchvision 0.26.0, timm 1.0.31 and transformers 5.24.0 (CPU).
Run: python tests/golden/encoders.py
"""

import transformers

import encoders_conv as conv
import encoders_other_names as other_names
import encoders_vit as vit
import encoders_vit_torchvision as vit_torchvision
from encoders_full_size import full_size
from encoders_pth import write_pth
from golden_files import FOLDER, fix_threads, versions, write_json

CONVOLUTIONAL = {
    "resnet_bottleneck": conv.resnet_bottleneck,
    "wide_resnet": conv.wide_resnet,
    "convnext": conv.convnext,
    "efficientnet_v2": conv.efficientnet_v2,
}
TRANSFORMERS = {
    "vit": vit.vit,
    "vit_registers": vit.vit_registers,
    "dinov2_transformers": other_names.dinov2_transformers,
    "vit_transformers": other_names.vit_transformers,
    "dinov2_registers_transformers": other_names.dinov2_registers_transformers,
    "vit_positioned_registers": vit.vit_positioned_registers,
    "vit_torchvision": vit_torchvision.vit_torchvision,
}


def main():
    fix_threads()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases = {name: case(name, seed) for seed, (name, case) in enumerate(CONVOLUTIONAL.items(), 1)}
    for seed, (name, case) in enumerate(TRANSFORMERS.items(), len(CONVOLUTIONAL) + 1):
        cases |= case(name, seed)
    write_json(
        FOLDER / "encoders.json",
        {
            "versions": versions("torch", "torchvision", "timm", "transformers"),
            "cases": cases,
            "pth": write_pth(list(CONVOLUTIONAL).index("resnet_bottleneck") + 1),
            "full_size": full_size(),
        },
    )


if __name__ == "__main__":
    main()
