"""optimizers.json: parameters after each of 20 steps of PyTorch's optimizers, and gradient clipping.

A weight of shape [3, 2] (stored row by row) and a bias of 3 minimise
`sum(curvature * (parameter - target)^2) + sum(sin(0.7 * step + index) * parameter)`. A case stores
the gradients that it saw, so a test needs no autograd. Everything is float32, as in training.

Made with torch 2.15.0. Run: python tests/golden/optimizers.py
"""

import torch

from golden_files import FOLDER, fix_threads, versions, write_json

N_STEPS = 20
WEIGHT = [[0.5, -1.25], [2.0, 0.1], [-0.3, 0.75]]
BIAS = [0.05, -0.6, 1.5]
TARGETS = [torch.tensor([[1.0, 0.0], [-0.5, 0.1], [0.2, -2.0]]), torch.tensor([0.0, 0.4, -0.4])]

OPTIMIZERS = {
    "adamax": (torch.optim.Adamax, {"lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2}),
    "adamax_no_decay": (torch.optim.Adamax, {"lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}),
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, "nesterov": False}),
    "sgd_nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2, "nesterov": True}),
    "sgd_plain": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2}),
}


def gradient(parameter, target, step):
    index = torch.arange(parameter.numel(), dtype=torch.float32).reshape(parameter.shape)
    curvature = 0.05 + 0.1 * index
    return 2 * curvature * (parameter - target) + torch.sin(0.7 * step + index)


def run(make, options):
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in (WEIGHT, BIAS)]
    optimizer = make(parameters, foreach=False, **options)
    steps = []
    for step in range(N_STEPS):
        for parameter, target in zip(parameters, TARGETS):
            parameter.grad = gradient(parameter.detach(), target, step)
        gradients = [parameter.grad.flatten().clone() for parameter in parameters]
        optimizer.step()
        after = [parameter.detach().flatten().clone() for parameter in parameters]
        steps.append(
            {"grad_weight": gradients[0], "grad_bias": gradients[1], "weight": after[0], "bias": after[1]}
        )
    return {"options": options, "steps": steps}


def clip(max_norm):
    gradients = [gradient(torch.tensor(value), target, 3) for value, target in zip((WEIGHT, BIAS), TARGETS)]
    parameters = [torch.nn.Parameter(torch.zeros_like(value)) for value in gradients]
    for parameter, value in zip(parameters, gradients):
        parameter.grad = value.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return {
        "max_norm": max_norm,
        "norm": norm,
        "grad_weight": gradients[0].flatten(),
        "grad_bias": gradients[1].flatten(),
        "clipped_weight": parameters[0].grad.flatten(),
        "clipped_bias": parameters[1].grad.flatten(),
    }


def main():
    fix_threads()
    write_json(
        FOLDER / "optimizers.json",
        {
            "versions": versions("torch"),
            "weight_shape": [3, 2],
            "initial_weight": torch.tensor(WEIGHT).flatten(),
            "initial_bias": torch.tensor(BIAS),
            "optimizers": {name: run(make, options) for name, (make, options) in OPTIMIZERS.items()},
            "clip_by_norm": [clip(1.0), clip(100.0)],
        },
    )


if __name__ == "__main__":
    main()
