"""A documented command line as a reader types it: with names of his own in place of the document's."""

from __future__ import annotations

import re

# What a reader puts in place of a document's words.
FILLED = {
    "[DEVICE_ID]": "0",
    "[DEVICE_NUM]": "8",
    "[RANK_SIZE]": "8",
    "$RANK_SIZE": "8",
    "[CUDA_VISIBLE_DEVICES]": "0,1,2,3,4,5,6,7",
    "[RANK_TABLE_FILE]": "table.json",
    "[DATA_PATH]": "data",
    "[DATASET_PATH]": "data",
    "[DATA_DIR]": "data",
    "[TRAIN_DATA_DIR]": "data/train",
    "real_data_path": "data",
    "[CKPT_FILE/CKPT_DIR]": "ckpt_0",
    "[CKPT_FILE]": "net.ckpt",
    "[CKPT_PATH]": "net.ckpt",
    "[CHECKPOINT]": "net.ckpt",
    "[CHECKPOINT_FILE]": "net.ckpt",
    "[PATH_CHECKPOINT]": "net.ckpt",
    "[CONFIG_PATH]": "gpu_default_config.yaml",
    "[FILE_FORMAT]": "MINDIR",
    "[EXPORT_FORMAT]": "MINDIR",
    "[OUTPUT_FILE_BASE_NAME]": "net",
    "[BATCH_SIZE]": "1",
}
PLACES = re.compile(r"\[[A-Z_/]+\]|\$RANK_SIZE|real_data_path")


def as_typed(line: str, target: str) -> str:
    """``line`` for a device ``target``, without where its output goes."""
    filled = {**FILLED, "[DEVICE_TARGET]": target, "[PLATFORM]": target}
    return PLACES.sub(lambda found: filled[found[0]], re.sub(r"\s*>.*$", "", line))
