"""Pixels: what training and evaluation transforms do to them, against NumPy and Pillow."""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np
import pytest
from PIL import Image

from src.data.dataset import EvalData
from src.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from src.data.transforms import eval_transforms, normalization, normalize, train_transforms
from src.errors import UsageError
from src.settings.sections import Augmentation
from tests.images import encode, photo

OWN = Preprocessing(32, 32)
BYTES = (0.0,) * 3, (1 / 255,) * 3  # mean and standard deviation whose normalisation leaves 0-255 as it is
RAW = Preprocessing(32, 32, "bilinear", "mindspore", *BYTES)
SHAPES = [(97, 61), (61, 97), (50, 50), (301, 83), (33, 32)]  # height, width


def evaluated(folder, images, preprocessing):
    """The pipeline's pixels, uint8 or float32 [N, size, size, 3]."""
    files = []
    for number, image in enumerate(images):
        (folder / f"{number}.png").write_bytes(encode(image, "PNG"))
        files.append((folder / f"{number}.png", 0))
    batches = [batch.asnumpy()[:valid] for batch, _, valid in EvalData(files, preprocessing, 2, workers=2)]
    return np.concatenate(batches).transpose(0, 2, 3, 1)


def augmented(image, config, own=RAW, times=1, seed=3):
    """Training pixels of one image, float32 [times, size, size, 3]."""
    ds.config.set_seed(seed)
    encoded = np.frombuffer(encode(image, "BMP"), np.uint8)
    rows = ds.NumpySlicesDataset({"image": np.stack([encoded] * times)}, shuffle=False)
    rows = rows.map(train_transforms(config, own), "image", num_parallel_workers=1)
    images = np.stack([row for (row,) in rows.create_tuple_iterator(output_numpy=True, num_epochs=1)])
    return (normalize(images, own) if images.dtype == np.uint8 else images).transpose(0, 2, 3, 1)


def bilinear_without_antialiasing(image, height, width):
    """What an interpolation of the four nearest source pixels gives, float64 [height, width, 3]."""

    def neighbours(new, old):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, old - 1), at - low

    top, bottom, down = neighbours(height, image.shape[0])
    left, right, along = neighbours(width, image.shape[1])
    rows = image[top] * (1 - down)[:, None, None] + image[bottom] * down[:, None, None]
    return rows[:, left] * (1 - along)[:, None] + rows[:, right] * along[:, None]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_pil_kernel_is_pillows_own_resize_and_torchvisions_crop(tmp_path, interpolation):
    kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    images = [photo(seed, *shape) for seed, shape in enumerate(SHAPES)]
    expected = []
    for image in images:
        height, width = image.shape[:2]
        new = (37, int(37 * height / width)) if width <= height else (int(37 * width / height), 37)
        left, top = round((new[0] - 32) / 2.0), round((new[1] - 32) / 2.0)
        resized = Image.fromarray(image).resize(new, kernel)
        expected.append(np.asarray(resized.crop((left, top, left + 32, top + 32))))
    pixels = evaluated(tmp_path, images, Preprocessing(32, 37, interpolation, "pil", *BYTES))
    assert np.array_equal(pixels, np.stack(expected))


def test_the_mindspore_kernel_interpolates_four_pixels(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    pixels = evaluated(tmp_path, [image], Preprocessing(32, 36, "bilinear", "mindspore", *BYTES))[0]
    expected = bilinear_without_antialiasing(image.astype(float), 36, 48)[2:34, 8:40]
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize(("interpolation", "low", "high"), [("bilinear", 50, 65), ("bicubic", 50, 65)])
def test_the_two_kernels_differ_where_an_image_shrinks(tmp_path, interpolation, low, high):
    """On noise shrunk to a third the mean difference is tens of the 256 levels: weights need their own kernel."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    own, other = (
        evaluated(tmp_path, [noise, photo(1, 96, 96)], Preprocessing(32, 32, interpolation, kernel, *BYTES))
        for kernel in ("mindspore", "pil")
    )
    difference = np.abs(own - other).mean(axis=(1, 2, 3))
    assert low < difference[0] < high
    assert 0 < difference[1] < 4


def test_the_two_kernels_agree_where_nothing_is_resized(tmp_path):
    pixels = [
        evaluated(tmp_path, [photo(0, 32, 40)], Preprocessing(32, 32, "bilinear", kernel, *BYTES))
        for kernel in ("mindspore", "pil")
    ]
    assert np.array_equal(*pixels)
    assert np.array_equal(pixels[0][0], photo(0, 32, 40)[:, 4:36])


@pytest.mark.parametrize("kernel", ["mindspore", "pil"])
def test_normalisation_is_exact(tmp_path, kernel):
    image = photo(0, 32, 32)
    pixels = evaluated(tmp_path, [image], Preprocessing(32, 32, resize_kernel=kernel))[0]
    mean, std = (np.float32([255 * value for value in values]) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, (image.astype(np.float32) - mean) / std)


def test_a_batch_is_normalised_to_the_bit_like_its_images_one_by_one():
    images = np.stack([photo(seed, 32, 33).transpose(2, 0, 1) for seed in range(3)])
    one_by_one = np.stack([normalization(Preprocessing())(image) for image in images])
    assert one_by_one.dtype == np.float32
    assert np.array_equal(normalize(images, Preprocessing()), one_by_one)


def test_the_order_of_the_training_operators():
    config = Augmentation(color_jitter=[0.4, 0.4, 0.4, 0.0], pca_noise=0.1, cutout=True)
    names = [type(operator).__name__ for operator in train_transforms(config, Preprocessing())]
    assert names == [
        "RandomCropDecodeResize",
        "CutOut",
        "RandomHorizontalFlip",
        "RandomColorAdjust",
        "RandomLighting",
        "HWC2CHW",
    ]
    late = train_transforms(config.model_copy(update={"cutout_position": "normalized"}), Preprocessing())
    assert [type(operator).__name__ for operator in late][-3:] == ["Normalize", "CutOut", "HWC2CHW"]


@pytest.mark.parametrize("position", ["upstream", "normalized"])
def test_cutout_is_black_before_and_the_mean_colour_after_normalisation(position):
    image = np.full((40, 40, 3), 200, np.uint8)
    config = Augmentation(cutout=True, cutout_length=12, cutout_position=position)
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    hole_colour = {"upstream": -mean / std, "normalized": np.zeros(3)}[position]
    areas = []
    for pixels in augmented(image, config, OWN, times=30):
        hole = np.isclose(pixels, hole_colour, atol=1e-5).all(axis=2)
        assert np.allclose(pixels[~hole], (200 / 255 - mean) / std, atol=1e-5)
        areas.append(hole.sum())
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert hole[np.ix_(rows, columns)].all()  # one rectangle
        assert len(rows) <= 12 and len(columns) <= 12
    assert max(areas) == 12 * 12
    assert min(areas) < 12 * 12  # clipped at the edge at times


def test_without_augmentation_the_image_comes_out_as_it_is():
    image = photo(4, 32, 32)
    config = Augmentation(crop_scale=[1, 1], crop_ratio=[1, 1], horizontal_flip=0)
    assert np.array_equal(augmented(image, config)[0], image)


def test_the_flip_has_its_probability():
    image = photo(4, 32, 32)
    config = Augmentation(crop_scale=[1, 1], crop_ratio=[1, 1], horizontal_flip=0.25)
    flipped = [np.array_equal(pixels, image[:, ::-1]) for pixels in augmented(image, config, times=400)]
    assert 70 < sum(flipped) < 130


def test_colour_jitter_changes_colours_within_its_range():
    image = np.full((32, 32, 3), (100, 100, 100), np.uint8)
    config = Augmentation(color_jitter=[0.4, 0, 0, 0])
    levels = [pixels.mean() for pixels in augmented(image, config, times=200)]
    assert 59 <= min(levels) < 65 and 135 < max(levels) <= 141


# Krizhevsky et al. 2012, section 4.1, as every framework has them: of the covariance of ImageNet's colours (0 to 255)
# the roots of the eigenvalues, and the eigenvectors in columns.
ROOTS = np.array([55.46, 4.794, 1.148])
COLOURS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def lit(image, noise, times):
    """What is added to the pixels of one image, int [times, size, size, 3]."""
    config = Augmentation(crop_scale=[1, 1], crop_ratio=[1, 1], horizontal_flip=0, pca_noise=noise)
    return augmented(image, config, times=times).astype(int) - image.astype(int)


def test_pca_noise_is_the_sum_of_the_principal_components_normally_weighted():
    """The colours added to 4,000 images have the covariance of NumPy's, their weights are normal and independent."""
    grey = np.full((32, 32, 3), 128, np.uint8)
    added = lit(grey, 0.5, 4000)
    assert (added == added[:, :1, :1]).all(), "one colour for all pixels of an image"
    colours = added[:, 0, 0]
    covariance = COLOURS @ np.diag((0.5 * ROOTS) ** 2) @ COLOURS.T
    assert np.abs(np.cov(colours.T) / covariance - 1).max() < 0.08
    weights = colours @ np.linalg.inv((ROOTS * COLOURS).T)
    # Rounding to whole levels blurs the third component, whose root is 1.148, by 0.29 / 1.148.
    expected = np.sqrt(0.5**2 + (1 / 12) / ROOTS**2)
    assert np.abs(weights.std(axis=0) / expected - 1).max() < 0.05
    assert np.abs(weights.mean(axis=0)).max() < 0.04
    assert np.abs(np.corrcoef(weights.T) - np.eye(3)).max() < 0.05
    within = (np.abs(weights[:, 0]) < 0.5).mean()
    assert abs(within - 0.6827) < 0.03


def test_pca_noise_is_seeded_scales_with_its_deviation_rounds_and_stays_within_a_byte():
    dark_and_light = np.full((32, 32, 3), 128, np.uint8)
    dark_and_light[:8], dark_and_light[8:16] = 0, 255
    large, again, small = (lit(dark_and_light, noise, 200) for noise in (1.0, 1.0, 0.25))
    assert np.array_equal(large, again)
    middle = large[:, 20, 20]
    unclipped = (np.abs(middle) < 120).all(axis=1)
    assert unclipped.sum() > 150
    # A quarter of the same draw, each rounded by itself to whole levels.
    assert np.abs(small[unclipped, 20, 20] - middle[unclipped] / 4).max() <= 0.5 + 0.5 / 4
    assert np.array_equal(large[unclipped, 0, 0], np.maximum(middle[unclipped], 0))
    assert np.array_equal(large[unclipped, 8, 0], np.minimum(middle[unclipped], 0))


def test_the_crop_covers_its_share_of_the_area():
    ramp = np.repeat(np.arange(128, dtype=np.uint8)[None, :, None] * 2, 128, axis=0).repeat(3, axis=2)
    config = Augmentation(crop_scale=[0.25, 0.25], crop_ratio=[1, 1], horizontal_flip=0)  # half the width
    spans = [np.ptp(pixels) for pixels in augmented(ramp, config, times=20)]
    assert all(110 <= span <= 130 for span in spans)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train_transforms(Augmentation(cutout=True), OWN), "cutout_length 56 is larger than image_size 32"),
        (lambda: eval_transforms(Preprocessing(224, 200)), "eval_resize 200 is smaller than image_size 224"),
    ],
)
def test_wrong_options_are_usage_errors(make, message):
    with pytest.raises(UsageError, match=message):
        make()
