"""One data pipeline: python -m bench.loaders NAME TRAIN_FOLDER BATCH SIZE THREADS.

Every run is an epoch: decode, random crop to SIZE, flip and batch, and with ``_bytes`` at the end of NAME nothing
more; otherwise normalisation to float32 NCHW too. Each library is used the way its documentation shows. All but ours
run in the bench's own environment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.serve import serve

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ON_BYTES = [255 * value for value in MEAN], [255 * value for value in STD]
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def ours(folder: str, batch: int, size: int, threads: int, is_normalized: bool) -> Callable[[], Iterable]:
    from src.data.dataset import TrainData
    from src.data.folders import build_class_index, list_images
    from src.data.preprocessing import Preprocessing
    from src.settings.sections import Augmentation

    files = list_images(Path(folder), build_class_index(Path(folder)))
    data = TrainData(files, Augmentation(drop_remainder=False), Preprocessing(size), batch, seed=1, workers=threads)
    if is_normalized:
        return lambda: data.epoch(0)
    return lambda: data.pipeline(0, is_normalized=False).create_tuple_iterator(num_epochs=1, do_copy=False)


def torchvision_v2(folder: str, batch: int, size: int, threads: int, is_normalized: bool) -> Callable[[], Iterable]:
    import torch
    from torchvision import io
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(size, AREA, RATIO, antialias=True), v2.RandomHorizontalFlip()]
    if is_normalized:
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return torch_loader(
        folder, batch, threads, v2.Compose(steps), lambda path: io.decode_jpeg(io.read_file(path), io.ImageReadMode.RGB)
    )


def torchvision_pil(folder: str, batch: int, size: int, threads: int, is_normalized: bool) -> Callable[[], Iterable]:
    from torchvision import transforms
    from torchvision.datasets.folder import pil_loader

    steps = [transforms.RandomResizedCrop(size, AREA, RATIO), transforms.RandomHorizontalFlip()]
    steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)] if is_normalized else [transforms.PILToTensor()]
    return torch_loader(folder, batch, threads, transforms.Compose(steps), pil_loader)


def torch_loader(folder: str, batch: int, threads: int, transform: Callable, read: Callable) -> Callable[[], Iterable]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    data = ImageFolder(folder, transform, loader=read)
    loader = DataLoader(data, batch, shuffle=True, num_workers=threads, persistent_workers=True)
    return lambda: loader


def tf_data(folder: str, batch: int, size: int, threads: int, is_normalized: bool) -> Callable[[], Iterable]:
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    files = sorted(str(path) for path in Path(folder).glob("*/*.jpg"))

    def load(path):
        encoded = tf.io.read_file(path)
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.zeros((1, 0, 4)),
            area_range=AREA,
            aspect_ratio_range=RATIO,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.image.decode_and_crop_jpeg(encoded, tf.concat([begin[:2], extent[:2]], 0), channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (size, size)))
        if not is_normalized:
            return tf.cast(image, tf.uint8)
        return tf.transpose((image - ON_BYTES[0]) / ON_BYTES[1], (2, 0, 1))

    data = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files))
    return lambda: data.map(load, num_parallel_calls=threads).batch(batch).prefetch(2)


def dali(folder: str, batch: int, size: int, threads: int, is_normalized: bool) -> Callable[[], Iterable]:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=batch, num_threads=threads, device_id=None)
    def pipeline():
        encoded, labels = fn.readers.file(file_root=folder, random_shuffle=True, name="files")
        images = fn.decoders.image_random_crop(
            encoded, output_type=types.RGB, random_area=AREA, random_aspect_ratio=RATIO
        )
        images, mirror = fn.resize(images, size=(size, size)), fn.random.coin_flip()
        if not is_normalized:
            return fn.flip(images, horizontal=mirror), labels
        mean, std = ON_BYTES
        images = fn.crop_mirror_normalize(
            images, mirror=mirror, dtype=types.FLOAT, output_layout="CHW", mean=mean, std=std
        )
        return images, labels

    built = pipeline()
    built.build()
    # An epoch ends with a full batch, whose surplus is a share of the next.
    steps = -(-built.epoch_size("files") // batch)
    return lambda: (built.run() for _ in range(steps))


LOADERS = {
    "ours": ours,
    "torchvision_v2": torchvision_v2,
    "torchvision_pil": torchvision_pil,
    "tf_data": tf_data,
    "dali": dali,
}


def main(name: str, folder: str, batch: str, size: str, threads: str) -> None:
    loader = LOADERS[name.removesuffix("_bytes")]
    epoch = loader(folder, int(batch), int(size), int(threads), not name.endswith("_bytes"))

    def run() -> None:
        for _ in epoch():
            pass

    serve(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
