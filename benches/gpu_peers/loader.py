"""The work `s5cl-run`: the step of `s5cl-step` behind a DataLoader that makes the views.

`tiles` is an .npy file of decoded tiles, u8 [n, height, width, 3]. Each worker reads tiles from it,
makes a weak and a strong view of each with torchvision on Pillow images, and hands over whole
batches of bytes; the GPU normalizes them.
"""

import math
import time
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from losses import N_CLASSES
from measure import set_f32
from step import SIDES, Step

STAIN_JITTER = 0.01
DARKEST = 1e-6
# Batches that each worker makes ahead.
AHEAD = 2
FEWEST_STEPS = 20
# Workers that started together also end a batch together: several rounds of them make a mean.
ROUNDS = 4
# Ruifrok and Johnston's stains, as in scikit-image: hematoxylin, eosin, DAB by red, green, blue.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED)
# What is black stays finite.
LOGARITHMS = np.log(np.maximum(np.arange(256) / 255, DARKEST)).astype(np.float32)


class QuarterTurns:
    TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)

    def __call__(self, image):
        turns = int(torch.randint(4, ()))
        return image.transpose(self.TURNS[turns - 1]) if turns else image


class StainJitter:
    """Scales and shifts the stains: linear in the logarithms, so one matrix does it."""

    def __call__(self, image):
        scales, shifts = torch.empty(2, 3).uniform_(-STAIN_JITTER, STAIN_JITTER).numpy()
        return Image.fromarray(jittered(np.asarray(image), 1 + scales, shifts))


def jittered(pixels, scales, shifts):
    matrix = (HED_FROM_RGB * scales) @ RGB_FROM_HED
    # To a byte, rounded: the factor goes into the exponent, the half on top.
    offset = math.log(DARKEST) * (shifts @ RGB_FROM_HED) + np.float32(math.log(255))
    colors = LOGARITHMS[pixels].reshape(-1, 3) @ matrix
    colors += offset
    np.exp(colors, out=colors)
    colors += 0.5
    return np.clip(colors, 0, 255, out=colors).astype(np.uint8).reshape(pixels.shape)


def weak_view():
    flips = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip(), QuarterTurns()]
    return transforms.Compose([*flips, transforms.ColorJitter(0.1, 0.1, 0.1, 0.1)])


def strong_view(size):
    flips = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip(), QuarterTurns()]
    crop = transforms.RandomResizedCrop(size, scale=(0.08, 1.0))
    affine = transforms.RandomAffine(
        0,
        translate=(0.05, 0.05),
        scale=(0.95, 1.05),
        shear=3,
        interpolation=InterpolationMode.BILINEAR,
    )
    return transforms.Compose([*flips, StainJitter(), crop, affine])


class Views(Dataset):
    """The weak and the strong view of each tile."""

    def __init__(self, path):
        self.tiles = np.load(path, mmap_mode="r")
        self.weak, self.strong = weak_view(), strong_view(self.tiles.shape[1])

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        tile = Image.fromarray(np.asarray(self.tiles[index]))
        views = np.stack([np.asarray(self.weak(tile)), np.asarray(self.strong(tile))])
        return torch.from_numpy(views), index % N_CLASSES


class Batches:
    """Random tiles without an end; the labeled ones are the first of a batch."""

    def __init__(self, n_tiles, batch):
        self.n_tiles, self.batch = n_tiles, batch

    def __iter__(self):
        while True:
            yield torch.randint(self.n_tiles, (self.batch,)).tolist()


class Collate:
    """Weak labeled, strong labeled, weak unlabeled, strong unlabeled views; the labels."""

    def __init__(self, n_labeled):
        self.n_labeled = n_labeled

    def __call__(self, samples):
        views = torch.stack([views for views, _ in samples], 1)
        labeled, unlabeled = views[:, : self.n_labeled], views[:, self.n_labeled :]
        labels = torch.tensor([label for _, label in samples[: self.n_labeled]])
        return torch.cat([labeled.flatten(0, 1), unlabeled.flatten(0, 1)]), labels


class Run:
    """The step and its loader."""

    def __init__(self, work, side, device):
        side = SIDES[side]
        self.device, self.f32, self.n_workers = device, side.f32, work["workers"]
        self.n_views = work["labeled"] + work["unlabeled"]
        self.step = Step(side, device)
        dataset = Views(work["tiles"])
        self.loader = DataLoader(
            dataset,
            batch_sampler=Batches(len(dataset), self.n_views // 2),
            collate_fn=Collate(work["labeled"] // 2),
            num_workers=self.n_workers,
            prefetch_factor=AHEAD,
            pin_memory=device.type == "cuda",
        )
        # The step warms up before there are workers, which would fill their queues meanwhile.
        size = dataset.tiles.shape[1]
        views = torch.zeros(self.n_views, size, size, 3, dtype=torch.uint8, device=device)
        labels = torch.arange(work["labeled"] // 2, device=device) % N_CLASSES
        set_f32(self.f32)
        for _ in range(3):
            self.step(views, labels)

    def about(self):
        return {"workers": self.n_workers, "ahead": AHEAD * self.n_workers}

    def run(self, repetitions):
        """At least so many steps, after as many as use up what the workers made ahead."""
        set_f32(self.f32)
        batches = iter(self.loader)
        for _ in range((AHEAD + 1) * self.n_workers):
            self.next_step(batches)
        self.synchronize()
        started = time.perf_counter()
        marks = [started]
        for _ in range(max(repetitions, FEWEST_STEPS, ROUNDS * self.n_workers)):
            self.next_step(batches)
            marks.append(time.perf_counter())
        self.synchronize()
        seconds = time.perf_counter() - started
        steps = len(marks) - 1
        return {
            "milliseconds": [1e3 * (after - before) for before, after in pairwise(marks)],
            "graph_milliseconds": None,
            "views_per_second": steps * self.n_views / seconds,
        }

    def next_step(self, batches):
        views, labels = (tensor.to(self.device, non_blocking=True) for tensor in next(batches))
        self.step(views, labels)

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def memory(self, n_calls):
        return {"mib": None}


def prepare(work, side, device):
    return Run(work, side, device)
