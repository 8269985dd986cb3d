"""The images of ShuffleNetV1's transfer learning, split in two and preprocessed, as MindSpore data sets."""

from __future__ import annotations

from mindspore import dataset

from src.data.split import Split
from src.errors import UsageError
from src.machine.ranks import World
from src.settings.config import load_config
from src.training import parts as build


def create_flower_dataset(
    device_num: int = 1, rank: int = 0, dataset_path: str = "", config_path: str = "transfer_config.yaml"
) -> tuple[dataset.Dataset, dataset.Dataset]:
    """Batches (image float32 [N, 3, H, W], label int32 [N]) to train on, shuffled and augmented, and to validate with.

    Args:
        device_num, rank: how many processes share the training images, and which of them this is; all validate with
            all images.
        dataset_path: folder of class folders ("": the one named in the file).
        config_path: file that says how images are split (`val_share`, `seed`), augmented, preprocessed and batched.

    Raises:
        UsageError: no folder is named, or its images cannot be used.
    """
    config = load_config(config_path, {"data_path": dataset_path} if dataset_path else {})
    if not config.data_path:
        raise UsageError(f"which images? Set dataset_path in {config_path}")
    _, files = build.train_images(config)
    train_files, eval_files = Split.drawn(files, config.val_share, config.seed).parts(files)
    preprocessing = build.preprocessing_of(config)
    train_data = build.train_data_of(config, train_files, preprocessing, World(rank, device_num))
    eval_data = build.eval_data_of(config, eval_files, preprocessing, World())
    return train_data.pipeline(epoch=0), eval_data.pipeline()
