"""What the scripts of the cases of encoders.py share: one case.

See encoders.py for what the files hold.
"""

from pathlib import Path

import numpy as np
import torch

from golden_files import FOLDER, write_safetensors

HEADER = {"script": "tests/golden/encoders.py"}


def weights_path(name: str) -> Path:
    return FOLDER / f"encoder_{name}.safetensors"


def expected_path(name: str) -> Path:
    return FOLDER / f"encoder_{name}_expected.safetensors"


def float32_normal(generator, *shape) -> torch.Tensor:
    return torch.tensor(generator.normal(size=shape).astype(np.float32)).double()


def randomize(model, generator) -> None:
    """Float32 values for every parameter and statistic, of a size that keeps signals alive."""
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.fill_(7)
            continue
        drawn = generator.normal(size=value.shape)
        if key.endswith("running_var"):
            drawn = generator.uniform(0.5, 1.5, size=value.shape)
        elif key.endswith(("gamma", "layer_scale", "lambda1")):
            drawn = 0.6 + 0.2 * drawn
        elif key.endswith(("token", "tokens", "pos_embed", "pos_embedding", "position_embeddings")):
            drawn *= 0.5
        elif value.ndim == 4:
            drawn *= np.sqrt(2.0 / np.prod(value.shape[1:]))
        elif value.ndim == 2:
            drawn *= np.sqrt(1.5 / value.shape[1])
        elif key.endswith("weight"):
            drawn = 1.0 + 0.2 * drawn
        else:
            drawn *= 0.2
        value.copy_(torch.tensor(drawn.astype(np.float32)))


def random_model(model, generator):
    """The model in float64 with random float32 values."""
    model = model.double().eval()
    randomize(model, generator)
    return model


def copied(state: dict) -> dict:
    return {key: value.clone() for key, value in state.items()}


def stage_outputs(model, images, stages) -> list:
    """What the named modules return in evaluation mode."""
    outputs = {}

    def keep(stage):
        def hook(_module, _input, output):
            # Cloned, since some modules that follow work in place.
            outputs[stage] = output.detach().clone()

        return hook

    hooks = [model.get_submodule(stage).register_forward_hook(keep(stage)) for stage in stages]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return [outputs[stage] for stage in stages]


def gradients(model, images, features, loss_weights, keys) -> dict:
    """`features_train`, the loss, and the gradients of the input and of the parameters `keys`."""
    images = images.clone().requires_grad_()
    features_train = features(images)
    loss = (features_train * loss_weights).sum()
    loss.backward()
    chosen = {f"grad.{key}": model.get_parameter(key).grad for key in keys}
    chosen["grad.input"] = images.grad
    for key, gradient in chosen.items():
        assert gradient.abs().max() > 1e-3, key
    return {"features_train": features_train, "loss": loss, **chosen}


def without_gradient(model) -> list:
    """Parameters that the loss does not depend on.

    Before batch norm of batch statistics a bias is of no effect, and neither is that of the batch
    norm in front of a 1x1 convolution in between. All others must have a gradient.
    """
    largest = {key: value.grad.abs().max() for key, value in model.named_parameters()}
    zero = [key for key, value in largest.items() if value < 1e-10]
    assert all(value > 1e-4 for key, value in largest.items() if key not in zero)
    return zero


def compute_case(model, images, loss_weights, stages, keys, features) -> dict:
    """Everything that follows from the input, in the dtype of the model and the input."""
    outputs = stage_outputs(model, images, stages)
    with torch.no_grad():
        features_eval = features(images)
    model.train()
    trained = gradients(model, images, features, loss_weights, keys)
    after = {key: value for key, value in model.named_buffers() if "running_" in key}
    return {
        "input": images,
        "loss_weights": loss_weights,
        **{f"stage.{i}": output for i, output in enumerate(outputs)},
        "features_eval": features_eval,
        **trained,
        **{f"after.{key}": value for key, value in after.items()},
    }


def write_case(name, model, generator, size, stages, keys, about, features=None, more=None) -> dict:
    """Writes both files of a case; returns what encoders.json says about it.

    `features` is the model's own output unless given; `more` returns further expected arrays.
    """
    features = features or model
    weights = copied(model.state_dict())
    images = float32_normal(generator, *size)
    with torch.no_grad():
        shape = features(images).shape
        further = more(images) if more else {}
    loss_weights = float32_normal(generator, *shape)
    expected = compute_case(model, images, loss_weights, stages, keys, features)
    loss = expected.pop("loss")
    write_safetensors(weights_path(name), weights, HEADER)
    write_safetensors(expected_path(name), {**expected, **further}, HEADER)
    return {
        **about,
        "input": list(size),
        "features": list(shape),
        "stages": {stage: list(expected[f"stage.{i}"].shape) for i, stage in enumerate(stages)},
        "loss": loss,
        "without_gradient": without_gradient(model),
        "n_gradients": len(keys) + 1,
        "n_statistics": sum(key.startswith("after.") for key in expected),
        **counts(model),
    }


def counts(model) -> dict:
    """Keys of the weights file, and values that are trained."""
    return {
        "n_keys": len(model.state_dict()),
        "n_parameters": sum(value.numel() for value in model.parameters()),
    }
