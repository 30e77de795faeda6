"""What the scripts in this folder share: exact, readable golden files.

Every script is run from any folder as `python tests/golden/<topic>.py`, in an environment with

    torch 2.15.0 (CPU), torchvision 0.29.2, pytorch-metric-learning 2.9.0, scikit-image 0.26.0,
    pillow 13.0.0, numpy 2.4.6, safetensors, scikit-learn 1.9.1, scipy 1.17.1

(`encoders.py`: in that of its own docstring) and writes its files beside itself (`augment.py`:
into the crate that reads them). A second run gives the same bytes. Inputs are float32; results are computed in float64 from them unless a
script says otherwise, and JSON holds the shortest text that reads back as the same number.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent


def fix_threads() -> None:
    """One thread, so that sums are taken in one order."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def versions(*packages: str) -> dict:
    return {name: version(name) for name in packages}


def plain(value):
    """Tensors and arrays as nested lists whose text is as short as their dtype allows."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return plain(list(value)) if value.ndim else plain(value[()])
    if isinstance(value, np.float32):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def is_scalar_or_row(value) -> bool:
    return not isinstance(value, (dict, list)) or (
        isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value)
    )


def text(value, indent: int = 0) -> str:
    """JSON with one line for each row of numbers."""
    if is_scalar_or_row(value):
        return json.dumps(value)
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {text(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    lines = [inner + text(item, indent + 1) for item in value]
    return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"


def write_json(path: Path, value: dict) -> None:
    path.write_text(text(plain(value)) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def write_safetensors(path: Path, tensors: dict, metadata: dict) -> None:
    """Float tensors as float32, integers as int64 (or as the uint8 they are)."""

    def narrow(value):
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return np.ascontiguousarray(array).reshape(array.shape)

    save_file({name: narrow(value) for name, value in tensors.items()}, path, metadata)
    path.chmod(0o644)
    print(f"{path.name}: {path.stat().st_size} bytes")
