"""Order, repetition, resumption and shards of the two pipelines."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import mindspore.dataset as ds
import numpy as np
import pytest

from src.data.dataset import EvalData, TrainData, shard_range, usable_workers
from src.data.folders import build_class_index, list_images
from src.data.preprocessing import Preprocessing
from src.data.reading import ImageLost
from src.errors import UsageError
from src.settings.sections import Augmentation
from tests.images import class_folders, numbered_images

OWN = Preprocessing(32, 32)
BYTES = Preprocessing(32, 32, mean=(0.0,) * 3, std=(1 / 255,) * 3)
EVERYTHING = Augmentation(color_jitter=[0.4, 0.4, 0.4, 0.1], pca_noise=0.1, cutout=True, cutout_length=8)
WORKERS = [1, pytest.param(2, marks=pytest.mark.skipif(usable_workers(2) < 2, reason="one CPU"))]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = class_folders(tmp_path_factory.mktemp("photos") / "train", per_class=9, classes=3)
    return list_images(folder, build_class_index(folder))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    return numbered_images(tmp_path_factory.mktemp("numbered"), 33)


def arrays(batches):
    return [(images.asnumpy().copy(), labels.asnumpy().copy()) for images, labels in batches]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


def train_numbers(data, epoch):
    """The numbers of the gray images of each batch; augmentation leaves a gray as it is."""
    batches = arrays(data.epoch(epoch))
    for images, labels in batches:
        assert np.array_equal(images[:, 0, 0, 0] % 10, labels)
    return [images[:, 0, 0, 0].astype(int).tolist() for images, _ in batches]


def joined(batches):
    return list(itertools.chain.from_iterable(batches))


def gray_data(files, batch_size, drop_remainder=True, **options):
    config = Augmentation(drop_remainder=drop_remainder)
    return TrainData(files, config, BYTES, batch_size, seed=5, workers=2, **options)


@pytest.mark.parametrize("workers", WORKERS)
def test_an_epoch_is_a_function_of_seed_and_epoch(photos, workers):
    def epoch(number, seed=7):
        return arrays(TrainData(photos, EVERYTHING, OWN, 4, seed, workers).epoch(number))

    first = epoch(0)
    assert len(first) == 6
    assert first[0][0].shape == (4, 3, 32, 32) and first[0][0].dtype == np.float32
    assert first[0][1].shape == (4,) and first[0][1].dtype == np.int32
    data = TrainData(photos, EVERYTHING, OWN, 4, 7, workers)
    later = [arrays(data.epoch(number)) for number in (2, 0, 1)]
    assert same(first, later[1]) and same(epoch(2), later[0])
    for other in (epoch(1), epoch(0, seed=8)):
        assert not any(np.array_equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))


@pytest.mark.parametrize("position", ["upstream", "normalized"])
def test_a_sinking_device_gets_the_same_pixels(photos, position):
    data = TrainData(photos, EVERYTHING.model_copy(update={"cutout_position": position}), OWN, 4, seed=1, workers=1)
    sunk = data.pipeline(epoch=0, skip_steps=2).create_tuple_iterator(num_epochs=1)
    assert same(arrays(sunk), arrays(data.epoch(0, skip_steps=2)))


def test_augmentation_differs_between_epochs_and_images(photos):
    one_image = photos[:1] * 4  # so that only augmentation differs
    data = TrainData(one_image, EVERYTHING, OWN, 4, seed=1, workers=2)
    images = [image for epoch in range(2) for batch, _ in data.epoch(epoch) for image in batch.asnumpy()]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(images, 2))


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("skip", [1, 3, 5, 6])
def test_an_epoch_entered_midway_is_its_rest_bit_for_bit(photos, workers, skip):
    data = TrainData(photos, EVERYTHING, OWN, 4, seed=7, workers=workers)
    whole = arrays(data.epoch(3))
    assert same(whole[skip:], arrays(data.epoch(3, skip_steps=skip)))


def test_evaluation_in_the_midst_of_an_epoch_does_not_disturb_it(photos):
    data = TrainData(photos, EVERYTHING, OWN, 4, seed=7, workers=2)
    interrupted = []
    for batch in data.epoch(0):
        interrupted += arrays([batch])
        list(EvalData(photos, Preprocessing(32, 32), 4, workers=2))
        ds.config.set_seed(99)
    assert same(arrays(data.epoch(0)), interrupted)


def test_each_image_occurs_once_in_an_epoch(numbered):
    data = gray_data(numbered, 4, drop_remainder=False)
    batches = train_numbers(data, 0)
    assert [len(batch) for batch in batches] == [4] * 8 + [1] and data.steps_per_epoch == 9
    assert sorted(joined(batches)) == list(range(33))
    assert joined(batches) == data.order(0).tolist()
    assert joined(batches) != list(range(33))
    assert joined(train_numbers(data, 1)) != joined(batches)


def test_the_remainder_is_dropped_from_the_tail_and_changes(numbered):
    data = gray_data(numbered, 4)
    epochs = [joined(train_numbers(data, epoch)) for epoch in range(3)]
    assert data.steps_per_epoch == 8
    assert epochs[0] == gray_data(numbered, 4, drop_remainder=False).order(0)[:32].tolist()
    left_out = [set(range(33)) - set(epoch) for epoch in epochs]
    assert all(len(rest) == 1 for rest in left_out) and len(set(map(frozenset, left_out))) > 1


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_step_of_one_common_order(numbered, world):
    together = gray_data(numbered, 2 * world)
    ranks = [gray_data(numbered, 2, rank=rank, world=world) for rank in range(world)]
    assert {rank.steps_per_epoch for rank in ranks} == {together.steps_per_epoch}
    batches = [train_numbers(rank, 4) for rank in ranks]
    for step, whole in enumerate(train_numbers(together, 4)):
        assert joined(batch[step] for batch in batches) == whole


def test_without_dropping_all_ranks_still_take_equal_steps(numbered):
    ranks = [gray_data(numbered, 4, rank=rank, world=2, drop_remainder=False) for rank in range(2)]
    orders = [rank.order(0).tolist() for rank in ranks]
    assert [rank.steps_per_epoch for rank in ranks] == [4, 4] and [len(order) for order in orders] == [16, 16]
    assert len(set(orders[0] + orders[1])) == 32
    ranks = [gray_data(numbered[:31], 4, rank=rank, world=3, drop_remainder=False) for rank in range(3)]
    assert [[len(batch) for batch in train_numbers(rank, 0)] for rank in ranks] == [[4, 4, 2]] * 3


def test_ranks_augment_differently(photos):
    files = photos[:1] * 8
    ranks = [TrainData(files, EVERYTHING, OWN, 4, 1, 2, rank=rank, world=2) for rank in range(2)]
    first, second = (arrays(data.epoch(0)) for data in ranks)
    assert not np.array_equal(first[0][0], second[0][0])


def test_too_few_images_for_a_step_are_a_usage_error(numbered):
    with pytest.raises(UsageError, match=r"33 training images do not fill one step of 20 on 2 device.*batch_size"):
        gray_data(numbered, 20, world=2)


def test_shards_cover_everything_once_in_equal_parts():
    for total in range(1, 34):
        for world in range(1, 9):
            shards = [shard_range(total, rank, world) for rank in range(world)]
            assert [index for shard in shards for index in shard] == list(range(total))
            assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize(("total", "batch_size", "world"), [(13, 8, 1), (13, 8, 2), (13, 5, 3), (3, 4, 8), (16, 8, 1)])
@pytest.mark.parametrize("kernel", ["mindspore", "pil"])
def test_evaluation_sees_every_image_once_in_order(numbered, total, batch_size, world, kernel):
    seen = []
    for rank in range(world):
        data = EvalData(
            numbered[:total], dataclasses.replace(BYTES, resize=36, resize_kernel=kernel), batch_size, 2, rank, world
        )
        batches = list(data)
        assert len(batches) == data.steps
        assert data.total == sum(valid for _, _, valid in batches) and data.total_all_ranks == total
        for images, labels, valid in batches:
            assert images.shape == (batch_size, 3, 32, 32) and labels.shape == (batch_size,)
            numbers = images.asnumpy()[:, 0, 0, 0].astype(int)
            assert np.array_equal(numbers % 10, labels.asnumpy())
            assert (numbers[valid:] == numbers[valid - 1]).all()
            seen += numbers[:valid].tolist()
    assert seen == list(range(total))


@pytest.mark.parametrize("kernel", ["mindspore", "pil"])
def test_evaluation_is_the_same_with_any_number_of_workers(photos, kernel):
    results = [
        arrays(batch[:2] for batch in EvalData(photos, Preprocessing(32, 36, resize_kernel=kernel), 4, workers))
        for workers in (1, 2, 1, 2)
    ]
    assert all(same(results[0], other) for other in results[1:])


def test_workers_are_limited_to_the_cpus_present_and_this_is_said(numbered, caplog):
    usable_workers.cache_clear()
    most = usable_workers(10_000)
    assert usable_workers(most) == most and usable_workers(0) == 1
    assert f"workers: {most} instead of 10000" in caplog.text
    assert len(arrays(TrainData(numbered, Augmentation(), OWN, 8, 1, workers=10_000).epoch(0))) == 4


def test_an_epoch_left_early_leaves_no_threads(photos):
    data = TrainData(photos, EVERYTHING, OWN, 2, seed=1, workers=2)
    before = threading.active_count()
    for epoch in range(4):
        batches = data.epoch(epoch)
        next(batches)
        batches.close()
    assert threading.active_count() <= before + 1
    assert len(arrays(data.epoch(0))) == data.steps_per_epoch


def test_a_file_that_vanishes_is_named(numbered, tmp_path):
    files = [*numbered[:3], (tmp_path / "gone.png", 0)]
    with pytest.raises(ImageLost, match=r"gone\.png"):
        list(EvalData(files, Preprocessing(32, 32), 2, workers=1))
