"""augment.json: single transforms at fixed amounts, for the tests of crates/s5cl-augment.

`images.tissue` [12, 13, 3] has many colors, `images.stains` [8, 9, 3] only mixtures of the three
stains. An image is a list of rows, a row the hexadecimal text of its interleaved bytes.

- `color`: torchvision's functional adjustments of a Pillow image.
- `hed_skimage`: rgb2hed, alpha * stains + beta, hed2rgb, rounded to the nearest byte.
- `hed_unclamped`: the same without rgb2hed's maximum(stains, 0).
- `hed_stretched`: the published S5CL code: rgb2hed, jitter, hed2rgb, stretched, cut off.
- `crop`: torchvision's resized_crop of a Pillow image, bilinear and antialiased.
- `affine`: scipy's map_coordinates(order=1, mode="mirror", i.e. OpenCV's REFLECT_101) at the places
  that three moved corners give (numpy's solve, from the corners themselves), rounded.

Made with torchvision 0.29.2, pillow 13.0.0, scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6.
Run: python tests/golden/augment.py
"""

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates
from skimage.color import hed2rgb, rgb2hed
from skimage.color.colorconv import hed_from_rgb
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from golden_files import FOLDER, versions, write_json

OUTPUT = FOLDER.parent.parent / "crates" / "s5cl-augment" / "tests" / "golden" / "augment.json"
COLOR_CASES = {
    "brightness": (F.adjust_brightness, [0.9, 1.07, 1.6]),
    "contrast": (F.adjust_contrast, [0.9, 1.07, 1.6]),
    "saturation": (F.adjust_saturation, [0.0, 0.9, 1.07, 1.6]),
    "hue": (F.adjust_hue, [-0.5, -0.1, 0.03, 0.1, 0.4]),
}
JITTERS = [
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    ([1.009, 0.991, 1.004], [0.007, -0.004, 0.002]),
    ([1.1, 0.9, 0.95], [-0.01, 0.02, 0.01]),
]
CROPS = [
    # left, top, width, height, output width, output height
    (3, 2, 8, 5, 13, 12),
    (0, 0, 13, 12, 5, 4),
    (5, 4, 7, 8, 7, 8),
    (9, 1, 3, 10, 17, 5),
]
SHIFTS = [
    [[1.0, -0.5], [0.25, 0.75], [-0.9, 0.1]],
    [[-1.5, 1.5], [1.2, -1.0], [0.7, 1.9]],
]


def tissue():
    """Smooth fields of many colors with noise, some black, white and grey, and one flat corner."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:12, 0:13]
    waves = [np.sin(0.5 * x + 0.9 * y + phase) + np.cos(0.7 * x - 0.4 * y + 2 * phase) for phase in range(3)]
    image = 128 + 62 * np.stack(waves, axis=-1) + generator.normal(0, 20, size=(12, 13, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)
    image[0, :4] = [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0]]
    image[1, :4] = [[0, 255, 0], [0, 0, 255], [255, 255, 0], [1, 0, 0]]
    image[9:, 10:] = [200, 150, 190]
    return image


def stains():
    """Mixtures with a little of every stain, so that bytes of them are still mixtures."""
    amounts = np.random.default_rng(1).uniform(0.012, 0.06, size=(8, 9, 3))
    return np.round(255 * hed2rgb(amounts)).astype(np.uint8)


def rows(image):
    return [row.tobytes().hex() for row in np.asarray(image)]


def to_bytes(rgb):
    return np.round(255 * rgb).astype(np.uint8)


def separate_unclamped(image):
    return np.log(np.maximum(image / 255.0, 1e-6)) / np.log(1e-6) @ hed_from_rgb


def stretched(rgb):
    low, high = rgb.min(), rgb.max()
    return (255 * (rgb - low) / (high - low)).astype(np.uint8)


def hed_case(name, image, jitter):
    alpha, beta = (np.float32(part).astype(float) for part in jitter)
    from_skimage = hed2rgb(alpha * rgb2hed(image) + beta)
    unclamped = hed2rgb(alpha * separate_unclamped(image) + beta)
    return {
        "image": name,
        "alpha": jitter[0],
        "beta": jitter[1],
        "hed_skimage": rows(to_bytes(from_skimage)),
        "hed_unclamped": rows(to_bytes(unclamped)),
        "hed_stretched": rows(stretched(from_skimage)),
    }


def crop_case(image, left, top, width, height, output_width, output_height):
    cropped = F.resized_crop(
        Image.fromarray(image), top, left, height, width, [output_height, output_width], InterpolationMode.BILINEAR
    )
    return {
        "region": [left, top, width, height],
        "size": [output_width, output_height],
        "output": rows(np.asarray(cropped)),
    }


def affine_case(image, shifts):
    height, width = image.shape[:2]
    middle, reach = np.array([width - 1, height - 1]) / 2, min(width, height) / 3
    corners = middle + reach * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = np.column_stack([corners + np.array(shifts), np.ones(3)])
    matrix = np.linalg.solve(moved, corners).T  # corner = matrix @ (x, y, 1) of its moved place
    y, x = np.mgrid[0:height, 0:width]
    source_x, source_y = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]).astype(float))
    places = [source_y, source_x]
    planes = np.moveaxis(image.astype(float), -1, 0)
    channels = [map_coordinates(plane, places, order=1, mode="mirror") for plane in planes]
    return {
        "shifts": shifts,
        "matrix": matrix,
        "output": rows(np.round(np.stack(channels, axis=-1)).astype(np.uint8)),
    }


def main():
    images = {"tissue": tissue(), "stains": stains()}
    image = images["tissue"]
    color = [
        {"operation": name, "amount": amount, "output": rows(np.asarray(function(Image.fromarray(image), amount)))}
        for name, (function, amounts) in COLOR_CASES.items()
        for amount in amounts
    ]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        OUTPUT,
        {
            "versions": versions("torchvision", "pillow", "scikit-image", "scipy", "numpy"),
            "images": {name: rows(value) for name, value in images.items()},
            "color": color,
            "hed": [hed_case("stains", images["stains"], jitter) for jitter in JITTERS]
            + [hed_case("tissue", image, JITTERS[2])],
            "crop": [crop_case(image, *case) for case in CROPS],
            "affine": [affine_case(image, shifts) for shifts in SHIFTS],
        },
    )


if __name__ == "__main__":
    main()
