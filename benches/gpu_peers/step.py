"""The work `s5cl-step`: one training step of S5CL on views that are on the GPU already.

ResNet-18 without its classifier, Linear(512, 64), Linear(64, 9); one forward pass of all views in
the order weak labeled, strong labeled, weak unlabeled, strong unlabeled; SupCon of the labeled views
and of the unlabeled ones by their pseudo-labels, cross entropy of the weak labeled views; Adamax.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torchvision
from torch import nn

from losses import LABELED_TEMPERATURE, N_CLASSES, UNLABELED_TEMPERATURE, dense, pml
from measure import Calls, input_sets

EMBEDDING = 64
MEAN = (0.7406, 0.5331, 0.7059)
STD = (0.1279, 0.1606, 0.1191)


@dataclass
class Side:
    # What autocast computes in, if anything.
    dtype: torch.dtype | None
    f32: str = "ieee"
    loss: object = pml


SIDES = {
    "bf16": Side(torch.bfloat16),
    "bf16-dense-loss": Side(torch.bfloat16, loss=dense),
    "f16": Side(torch.float16),
    "tf32": Side(None, "tf32"),
    "f32": Side(None),
}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torchvision.models.resnet18()
        self.encoder.fc = nn.Identity()
        self.embedder = nn.Linear(512, EMBEDDING)
        self.classifier = nn.Linear(EMBEDDING, N_CLASSES)

    def forward(self, pixels):
        embeddings = self.embedder(self.encoder(pixels))
        return embeddings, self.classifier(embeddings)


class Step:
    """Called with u8 views [n, height, width, 3] and the labels of the labeled images."""

    def __init__(self, side, device):
        torch.backends.cudnn.benchmark = True
        self.side, self.device = side, device
        self.network = Network().to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.Adamax(
            self.network.parameters(), lr=1e-4, weight_decay=1e-4, foreach=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=side.dtype is torch.float16)
        mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def __call__(self, views, labels):
        self.optimizer.zero_grad(set_to_none=True)
        # Channels last, as the bytes are.
        pixels = (views.permute(0, 3, 1, 2) * self.scale).add_(self.shift)
        with torch.autocast(self.device.type, self.side.dtype, enabled=self.side.dtype is not None):
            embeddings, logits = self.network(pixels)
        loss = self.loss(embeddings.float(), logits.float(), labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def loss(self, embeddings, logits, labels):
        n_labeled = 2 * len(labels)
        n_unlabeled = (len(logits) - n_labeled) // 2
        pseudo_labels = logits[n_labeled : n_labeled + n_unlabeled].argmax(1)
        contrast = self.side.loss
        supervised = contrast(embeddings[:n_labeled], labels.repeat(2), LABELED_TEMPERATURE)
        unsupervised = contrast(
            embeddings[n_labeled:], pseudo_labels.repeat(2), UNLABELED_TEMPERATURE
        )
        return (
            supervised + unsupervised + nn.functional.cross_entropy(logits[: len(labels)], labels)
        )


def prepare(work, side, device):
    """`labeled` and `unlabeled` count views, two of each image."""
    side = SIDES[side]
    step = Step(side, device)
    shape = (work["labeled"] + work["unlabeled"], work["size"], work["size"], 3)
    labels = (torch.arange(work["labeled"] // 2) % N_CLASSES).to(device)
    sets = input_sets(torch.Size(shape).numel(), device)
    views = [torch.randint(256, shape, dtype=torch.uint8, device=device) for _ in range(sets)]
    return Calls([partial(step, each, labels) for each in views], device, f32=side.f32)
