"""The files of torch.save that encoders.py writes: two to be read, two to be refused."""

import argparse
import fractions
import io
import struct

import numpy as np
import torch
from torch import nn

from encoders_conv import BLOCKS, CHANNELS, TinyResNet
from encoder_golden import random_model
from golden_files import FOLDER


def save(name, value):
    path = FOLDER / name
    torch.save(value, path)
    report(path)


def save_old_format(name, key, tensor):
    """The format before torch 1.6; it names a storage by its address, here replaced by 0."""

    def pickled(text):
        return b"X" + struct.pack("<I", len(text)) + text.encode()

    buffer = io.BytesIO()
    torch.save({key: tensor}, buffer, _use_new_zipfile_serialization=False)
    address = pickled(str(tensor.untyped_storage()._cdata))
    assert buffer.getvalue().count(address) == 2
    path = FOLDER / name
    path.write_bytes(buffer.getvalue().replace(address, pickled("0")))
    assert torch.equal(torch.load(path)[key], tensor)
    report(path)


def report(path):
    path.chmod(0o644)
    print(f"{path.name}: {path.stat().st_size} bytes")


def write_pth(seed) -> dict:
    """`seed` is that of the case resnet_bottleneck, whose values these are."""
    model = random_model(TinyResNet(BLOCKS, CHANNELS), np.random.default_rng(seed)).float()
    trained = {"state_dict": nn.DataParallel(model).state_dict()}
    assert all(key.startswith("module.") for key in trained["state_dict"])
    save("encoder_resnet_bottleneck.pth", trained)

    key, tensor = "conv1.weight", torch.arange(6, dtype=torch.float32).reshape(2, 3)
    save_old_format("encoder_old_format.pth", key, tensor)
    arguments = argparse.Namespace(learning_rate=0.1)
    save("encoder_bystanders.pth", {"state_dict": {key: tensor}, "arguments": arguments})
    rate = fractions.Fraction(1, 10)
    save("encoder_foreign_class.pth", {"state_dict": {key: tensor}, "rate": rate})
    return {
        "encoder_resnet_bottleneck.pth": {
            "weights_of": "resnet_bottleneck",
            "under": "state_dict",
            "prefix": "module.",
            "n_keys": len(trained["state_dict"]),
        },
        "encoder_old_format.pth": "one tensor, saved without the zip format",
        "encoder_bystanders.pth": "one tensor under state_dict; arguments: argparse.Namespace",
        "encoder_foreign_class.pth": "one tensor under state_dict; rate: fractions.Fraction",
    }
