"""The works `supcon` and `s5cl-loss`: contrastive losses alone, forward and backward.

Every side has the same formula: for anchor i with the positives P(i) (same label, not i) and the
cosine similarity s, the mean over the anchors that have a positive of

    log(sum over a != i of exp(s_ia / t)) - (sum over p in P(i) of s_ip / t) / |P(i)|
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from pytorch_metric_learning.losses import SupConLoss

import inf_cl
import liger
from measure import Calls, input_sets, set_f32

N_CLASSES = 9
LABELED_TEMPERATURE = 0.2
UNLABELED_TEMPERATURE = 0.7
# A graph is worth its while where launches take longer than what is launched.
LARGEST_GRAPH = 4096


def dense(embeddings, labels, temperature):
    """As one writes it first in PyTorch."""
    z = torch.nn.functional.normalize(embeddings)
    itself = torch.eye(len(labels), dtype=torch.bool, device=z.device)
    similarities = (z @ z.t() / temperature).masked_fill(itself, -torch.inf)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    counts = positive.sum(1)
    positives = torch.where(positive, similarities, 0).sum(1) / counts.clamp(min=1)
    losses = torch.logsumexp(similarities, 1) - positives
    return torch.where(counts > 0, losses, 0).sum() / (counts > 0).sum().clamp(min=1)


def pml(embeddings, labels, temperature):
    return pml_loss(temperature)(embeddings, labels)


@cache
def pml_loss(temperature):
    return SupConLoss(temperature=temperature)


def dense_autocast(embeddings, labels, temperature):
    with torch.autocast(embeddings.device.type, torch.bfloat16):
        return dense(embeddings, labels, temperature)


def tiled(product):
    return lambda *inputs: inf_cl.supcon(*inputs, product, N_CLASSES)


def chunked(*inputs):
    return liger.supcon(*inputs, N_CLASSES)


@dataclass
class Side:
    loss: Callable
    # How products of f32 are computed.
    f32: str = "ieee"
    # It looks at labels on the host, which a graph cannot.
    looks: bool = False
    # Relative errors of loss and gradient that rounding explains. They are those of products whose
    # operands have 24, 11 or 8 bits, behind a temperature of 0.1 and the cancellation in a gradient.
    tolerances: tuple = (1e-5, 1e-4)


ELEVEN_BITS = (2e-4, 5e-3)
EIGHT_BITS = (2e-2, 1e-1)
SIDES = {
    "dense": Side(dense),
    "dense-tf32": Side(dense, "tf32", tolerances=ELEVEN_BITS),
    "dense-bf16": Side(dense_autocast, tolerances=EIGHT_BITS),
    "pml": Side(pml, looks=True),
    "inf-cl": Side(tiled("tf32x3")),
    "inf-cl-tf32": Side(tiled("tf32"), tolerances=ELEVEN_BITS),
    "inf-cl-f16": Side(tiled("f16"), tolerances=ELEVEN_BITS),
    "liger": Side(chunked),
    "liger-tf32": Side(chunked, "tf32", tolerances=ELEVEN_BITS),
}


def segments(work):
    """Rows and temperature of each loss; a work is the sum of its losses."""
    if work["kind"] == "supcon":
        return [(work["n"], work["temperature"])]
    return [(work["labeled"], LABELED_TEMPERATURE), (work["unlabeled"], UNLABELED_TEMPERATURE)]


def inputs(work, device, seed):
    """Embeddings around a center for each class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(rows for rows, _ in segments(work))
    centers = torch.randn(N_CLASSES, work["dim"], generator=generator)
    labels = torch.cat([torch.arange(rows) % N_CLASSES for rows, _ in segments(work)])
    embeddings = torch.randn(n, work["dim"], generator=generator) + centers[labels]
    return embeddings.to(device), labels.to(device)


def total(loss, work, embeddings, labels):
    first, losses = 0, []
    for rows, temperature in segments(work):
        part = slice(first, first + rows)
        losses.append(loss(embeddings[part], labels[part], temperature))
        first += rows
    return sum(losses)


def loss_and_gradient(loss, work, embeddings, labels):
    embeddings = embeddings.detach().requires_grad_()
    value = total(loss, work, embeddings, labels)
    return value, torch.autograd.grad(value, embeddings)[0]


def prepare(work, side, device):
    side = SIDES[side]
    n = sum(rows for rows, _ in segments(work))
    sets = input_sets(4 * n * work["dim"], device)
    calls = [
        partial(loss_and_gradient, side.loss, work, *inputs(work, device, seed))
        for seed in range(sets)
    ]
    capturable = not side.looks and n <= LARGEST_GRAPH
    return Calls(calls, device, f32=side.f32, capturable=capturable)


def check(work, names, device):
    """Relative errors of the sides against the dense formula in f64, on inputs of their own."""
    embeddings, labels = inputs(work, device, seed=1000)
    set_f32("ieee")
    expected, gradient = loss_and_gradient(dense, work, embeddings.double(), labels)
    errors = {}
    for name in names or SIDES:
        side = SIDES[name]
        set_f32(side.f32)
        value, slope = loss_and_gradient(side.loss, work, embeddings, labels)
        loss_error = ((value.double() - expected).abs() / expected.abs()).item()
        gradient_error = ((slope.double() - gradient).abs().max() / gradient.abs().max()).item()
        # Written so that a NaN is not within.
        within = loss_error <= side.tolerances[0] and gradient_error <= side.tolerances[1]
        errors[name] = {"loss": loss_error, "gradient": gradient_error, "within": within}
    return errors
