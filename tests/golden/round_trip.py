"""Trains every kind of encoder for two steps with the program, loads each `model.safetensors` into
timm's or torchvision's class by its keys, and compares the embeddings of both.

Run: python tests/golden/round_trip.py PROGRAM, where PROGRAM is target/debug/xtask. Prints, for each
encoder, the largest difference of an embedding against the largest embedding, and fails above
TOLERANCE or where a key is missing or left over. Takes some minutes and writes no golden file.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from safetensors import safe_open

SIDE = 112
TOLERANCE = 1e-5
DATA = f"synthetic:tissue?size={SIDE}&images=180"
SETTINGS = {
    "data.image_size": SIDE,
    "data.batch_labeled": 8,
    "data.batch_unlabeled": 8,
    "evaluation.every": 0,
    "optimizer.learning_rate": 1e-3,
}
HEADS = ("embedder.", "classifier.")


def theirs(name):
    """The same architecture, without its head."""
    if name.startswith("resnet"):
        model = getattr(torchvision.models, name)()
        model.fc = torch.nn.Identity()
        return model
    if name == "efficientnet-v2-s":
        model = torchvision.models.efficientnet_v2_s()
        model.classifier = torch.nn.Identity()
        return model
    if name == "convnext-tiny":
        return timm.create_model("convnext_tiny", num_classes=0)
    known = {
        "vit-small-16": "vit_small_patch16_224",
        "vit-base-16": "vit_base_patch16_224",
        "vit-small-14-dinov2": "vit_small_patch14_dinov2",
        "vit-small-14-reg4": "vit_small_patch14_reg4_dinov2",
    }
    return timm.create_model(known[name], num_classes=0, img_size=SIDE)


def ours(program, name, folder):
    """The run folder of two steps, and the embeddings of some images by its model."""
    run, embeddings = folder / name, folder / f"{name}.npy"
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    train = ["train", "--quiet", "--out", run, "--data", DATA, "--steps", "2"]
    subprocess.run([program, *train, f"--set=encoder.name={name}", *settings], check=True,
                   stdout=subprocess.DEVNULL)
    images = ["--images", folder / "images", "--out", embeddings]
    subprocess.run([program, "embed", "--run", run, *images], check=True,
                   stdout=subprocess.DEVNULL)
    return run, np.load(embeddings)


def write_images(folder):
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(6):
        coarse = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE)).save(folder / f"{index}.png")


def difference(program, name, folder):
    run, got = ours(program, name, folder)
    with safe_open(run / "model.safetensors", "pt") as file:
        card = json.loads(next(iter(file.metadata().values())))
        weights = {key: file.get_tensor(key) for key in file.keys()}
    heads = {key: weights.pop(key) for key in list(weights) if key.startswith(HEADS)}
    model = theirs(name).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    assert not missing and not unexpected, (name, missing, unexpected)
    paths = sorted((folder / "images").iterdir())
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    pixels = (pixels - np.array(card["mean"])) / np.array(card["std"])
    with torch.inference_mode():
        encodings = model(torch.tensor(pixels).permute(0, 3, 1, 2).float())
        expected = encodings @ heads["embedder.weight"].T + heads["embedder.bias"]
    expected = expected.numpy()
    return np.abs(expected - got).max() / np.abs(expected).max()


def main():
    program = Path(sys.argv[1]).resolve()
    names = ["resnet18", "resnet34", "resnet50", "resnet101", "convnext-tiny", "efficientnet-v2-s"]
    names += ["vit-small-16", "vit-base-16", "vit-small-14-dinov2", "vit-small-14-reg4"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_images(folder / "images")
        for name in names:
            worst = difference(program, name, folder)
            print(f"{name}: {worst:.1e}", flush=True)
            assert worst < TOLERANCE, name


if __name__ == "__main__":
    main()
