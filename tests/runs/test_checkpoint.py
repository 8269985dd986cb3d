"""A checkpoint is whole or absent: kills, damage, a full disk, pruning, strict loading."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.errors import UsageError
from src.files import replacing
from src.runs import checkpoint
from src.runs.checkpoint import (
    BEST,
    LAST,
    CheckpointFolder,
    list_checkpoints,
    read_checkpoint,
    verify,
    write_checkpoint,
)
from tests.durability import assert_survives, names_given, recorded

KILLS = 20
DAMAGES = 200

# Writes a checkpoint after the other, each holding its own number, as fast as it can.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from src.runs.checkpoint import CheckpointFolder
folder = CheckpointFolder(Path(sys.argv[1]), keep=3)
newest, _ = folder.newest_valid()
number = 0 if newest is None else int(newest.stem.split("-")[1].split("_")[0])
print("ready", flush=True)
while True:
    number += 1
    weights = {"weight": np.full(20_000, number, np.float32)}
    folder.save("net", number, 1, weights, {}, {"number": number}, is_best=number % 3 == 0)
"""

FILLER = """
import resource, sys
from pathlib import Path
import numpy as np
from src.runs.checkpoint import CheckpointFolder
folder = CheckpointFolder(Path(sys.argv[1]))
folder.save("net", 1, 1, {"weight": np.ones(1000, np.float32)}, {}, {"number": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    folder.save("net", 2, 1, {"weight": np.ones(100_000, np.float32)}, {}, {"number": 2})
except (OSError, RuntimeError):
    sys.exit(7)
"""


def arrays(value: float = 1.0, size: int = 100) -> dict[str, np.ndarray]:
    return {"weight": np.full(size, value, np.float32), "bias": np.arange(3, dtype=np.float32)}


def script(text: str, root: Path, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(root), "GLOG_v": "4"}
    return subprocess.Popen(
        [sys.executable, "-c", text, str(folder)], env=environment, cwd=folder.parent, stdout=subprocess.PIPE
    )


# -- one file ----------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
    weights = {"a.weight": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)}
    state = {"step": np.array(7, np.int32), "moments.a.weight": weights["a.weight"] * 2}
    meta = {"model": "net", "classes": ["ä", "b"], "position": {"loss_sum": 0.1 + 0.2}}
    write_checkpoint(tmp_path / "net.ckpt", weights, state, meta)
    read = read_checkpoint(tmp_path / "net.ckpt")
    assert read.weights.keys() == weights.keys()
    assert read.state.keys() == state.keys()
    for name, array in {**weights, **state}.items():
        stored = {**read.weights, **read.state}[name]
        assert stored.dtype == array.dtype
        np.testing.assert_array_equal(stored, array)
    assert {key: read.meta[key] for key in meta} == meta


def test_a_checkpoint_is_never_overwritten(tmp_path):
    path = tmp_path / "net.ckpt"
    write_checkpoint(path, arrays(1), {}, {})
    with pytest.raises(FileExistsError):
        write_checkpoint(path, arrays(2), {}, {})
    np.testing.assert_array_equal(read_checkpoint(path).weights["weight"], arrays(1)["weight"])


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_file_modes_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        path = CheckpointFolder(tmp_path).save("net", 1, 1, arrays(), {}, {})
    finally:
        os.umask(before)
    for file in (path, path.with_name(path.name + ".json"), tmp_path / LAST):
        assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_nothing_stays_of_a_write_that_fails(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(checkpoint.ms, "save_checkpoint", fail)
    with pytest.raises(RuntimeError):
        write_checkpoint(tmp_path / "net.ckpt", arrays(), {}, {})
    assert not list(tmp_path.iterdir())


def test_everything_is_flushed_to_disk_before_it_gets_its_name(tmp_path):
    """The checksum is there before the checkpoint it is of, and that before a pointer says so."""
    with recorded() as events:
        CheckpointFolder(tmp_path / "c").save("net", 1, 1, arrays(), {}, {}, is_best=True)
    names = ["net-1_1.ckpt.json", "net-1_1.ckpt", LAST, BEST]
    assert names_given(events) == names
    for name in names:
        assert_survives(tmp_path / "c" / name, events)


# -- damage ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("original") / "net-2_1.ckpt"
    rng = np.random.default_rng(3)
    weights = {f"layer{index}.weight": rng.normal(size=50).astype(np.float32) for index in range(8)}
    write_checkpoint(path, weights, {"step": np.array(3, np.int32)}, {"model": "net", "classes": ["a", "b"]})
    return path


def damaged_contents(content: bytes, kind: str) -> list[bytes]:
    rng = random.Random(5)
    if kind == "truncated":
        return [content[:length] for length in rng.sample(range(len(content)), DAMAGES)]
    flipped = []
    for bit in rng.sample(range(8 * len(content)), DAMAGES):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(changed))
    return flipped


@pytest.mark.parametrize("kind", ["truncated", "flipped bit"])
def test_a_damaged_checkpoint_is_refused(tmp_path, original, kind):
    path = tmp_path / original.name
    shutil.copy(original.with_name(original.name + ".json"), tmp_path)
    for content in damaged_contents(original.read_bytes(), kind):
        path.write_bytes(content)
        with pytest.raises(UsageError) as refusal:
            read_checkpoint(path)
        assert str(path) in str(refusal.value)
    path.write_bytes(original.read_bytes())
    assert read_checkpoint(path).meta["model"] == "net"


def test_a_flipped_bit_is_found_without_the_checksum_file_too(tmp_path, original):
    path = tmp_path / original.name
    for content in damaged_contents(original.read_bytes(), "flipped bit"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="damaged"):
            read_checkpoint(path)


def test_a_cut_without_the_checksum_file_never_gives_a_part_of_the_state(tmp_path, original):
    """A cut between two entries cannot be told from a foreign file with fewer weights; those are right, and a
    network that lacks some of them refuses them."""
    path, whole = tmp_path / original.name, read_checkpoint(original)
    for content in damaged_contents(original.read_bytes(), "truncated"):
        path.write_bytes(content)
        try:
            read = read_checkpoint(path)
        except UsageError:
            continue
        assert read.meta in ({}, whole.meta)
        assert read.state.keys() == (whole.state.keys() if read.meta else set())
        for name, array in read.weights.items():
            np.testing.assert_array_equal(array, whole.weights[name])


def test_state_without_meta_is_damage(tmp_path):
    path = tmp_path / "net.ckpt"
    ms.save_checkpoint([{"name": "state.step", "data": ms.Tensor(3)}], str(path))
    with pytest.raises(UsageError, match="ends before its meta"):
        read_checkpoint(path)


def test_a_damaged_checksum_file_is_refused(tmp_path, original):
    path = Path(shutil.copy(original, tmp_path))
    checksum = path.with_name(path.name + ".json")
    whole = original.with_name(original.name + ".json").read_text()
    for text in ("", whole[:20], "[]", "{}", whole.replace(json.loads(whole)["sha256"][:4], "zzzz")):
        checksum.write_text(text)
        with pytest.raises(UsageError, match=r"net-2_1\.ckpt"):
            verify(path)


def test_the_newest_whole_checkpoint_is_chosen_and_the_damaged_ones_are_named(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=10)
    paths = [folder.save("net", number, 1, arrays(number), {}, {"number": number}) for number in range(1, 5)]
    content = bytearray(paths[3].read_bytes())
    content[len(content) // 2] ^= 8
    paths[3].write_bytes(bytes(content))
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    newest, complaints = folder.newest_valid()
    assert newest == paths[1]
    assert [str(paths[3]) in complaints[0], str(paths[2]) in complaints[1], len(complaints)] == [True, True, 2]
    paths[0].unlink()
    paths[1].write_bytes(b"")
    newest, complaints = folder.newest_valid()
    assert newest is None
    assert len(complaints) == 3


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n" * 40, bytes(5000), b"PK\x03\x04" + bytes(300)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "foreign.ckpt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged or not a MindSpore checkpoint"):
        read_checkpoint(path)


def test_a_missing_file_and_another_suffix_are_named(tmp_path):
    with pytest.raises(UsageError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"must end in \.ckpt"):
        read_checkpoint(tmp_path / "weights.pth")


# -- a folder ----------------------------------------------------------------------------------


def test_the_newest_are_kept_and_the_best_is_protected(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    for epoch in range(1, 13):
        folder.save("net", epoch, 5, arrays(epoch), {}, {}, is_best=epoch in (2, 4))
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"net-{epoch}_5.ckpt" for epoch in (4, 10, 11, 12)]
    assert folder.pointed(BEST).name == "net-4_5.ckpt"
    assert folder.pointed(LAST).name == "net-12_5.ckpt"
    expected = {f"net-{epoch}_5.ckpt{tail}" for epoch in (4, 10, 11, 12) for tail in ("", ".json")}
    assert {path.name for path in tmp_path.iterdir()} == expected | {BEST, LAST}


def test_numbers_are_ordered_as_numbers(tmp_path):
    names = ["net-1_2", "net-1_10", "net-1_10-2", "net-2_1", "net-9_1", "net-10_1", "net-10_1-2", "net-10_1-10"]
    shuffled = names[:]
    random.Random(1).shuffle(shuffled)
    for name in shuffled:
        (tmp_path / f"{name}.ckpt").touch()
    (tmp_path / ".writing-x.ckpt").touch()
    assert [path.stem for path in list_checkpoints(tmp_path)] == names


def test_the_newest_is_the_one_saved_last_whatever_the_steps_of_its_epoch(tmp_path):
    """After 40 steps of an epoch the run went on with twice the batch, at step 20; and files of an earlier version."""
    folder = CheckpointFolder(tmp_path, keep=3)
    for epoch, step in ((1, 50), (2, 40)):
        folder.save("net", epoch, step, arrays(step), {}, {})
    for path in list_checkpoints(tmp_path):
        facts = json.loads(path.with_name(f"{path.name}.json").read_text())
        del facts["number"]
        path.with_name(f"{path.name}.json").write_text(json.dumps(facts))
    saved = [folder.save("net", 2, step, arrays(step), {}, {}) for step in (22, 24)]
    assert folder.newest_valid()[0] == saved[-1]
    assert [path.stem for path in list_checkpoints(tmp_path)] == ["net-2_40", "net-2_22", "net-2_24"]
    (tmp_path / LAST).unlink()
    shutil.copytree(tmp_path, tmp_path / "moved")
    assert CheckpointFolder(tmp_path / "moved").newest_valid()[0].stem == "net-2_24"


def test_the_same_position_gets_a_new_name(tmp_path):
    folder = CheckpointFolder(tmp_path)
    first = folder.save("net", 1, 5, arrays(1), {}, {})
    first.write_bytes(b"damaged")
    second = folder.save("net", 1, 5, arrays(2), {}, {})
    assert (first.name, second.name) == ("net-1_5.ckpt", "net-1_5-2.ckpt")
    assert folder.pointed(LAST) == second
    assert folder.newest_valid()[0] == second


@pytest.mark.parametrize("text", ["", "gone.ckpt", "../outside.ckpt", "/etc/passwd"])
def test_a_pointer_leads_to_a_file_of_its_folder_or_nowhere(tmp_path, text):
    (tmp_path / "outside.ckpt").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LAST).write_text(text)
    assert CheckpointFolder(tmp_path / "run").pointed(LAST) is None


def test_leftovers_of_a_kill_are_swept_up_but_nothing_of_another_process(tmp_path):
    """eval.py writes its tables beside the checkpoints, perhaps at this moment."""
    for name in (".saving-abc.ckpt", ".saving-abc.tmp", ".saving-def", ".writing-old.ckpt", ".writing-old.tmp"):
        (tmp_path / name).touch()
    with replacing(tmp_path / "per_class.csv") as theirs:
        CheckpointFolder(tmp_path).save("net", 1, 1, arrays(), {}, {})
        assert list(tmp_path.glob(".*")) == [theirs]
        theirs.write_text("class,images,top1\n")
    assert (tmp_path / "per_class.csv").read_text() == "class,images,top1\n"


def test_kills_at_random_moments_leave_whole_checkpoints(tmp_path, root):
    """SIGKILL comes 5 to 60 milliseconds after a write began somewhere in an endless row of them."""
    rng = random.Random(7)
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=3)
    folder.path.mkdir()
    interrupted = progress = 0
    # One start costs seconds, so forks of one process that has everything imported are what is killed.
    forker = (
        "import os, sys\nimport src.runs.checkpoint\nfor line in sys.stdin:\n    if os.fork() == 0:\n"
        + "".join(f"        {line}\n" for line in f"print(os.getpid(), flush=True)\n{WRITER}".splitlines())
        + "    os.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root), "GLOG_v": "4"}
    with subprocess.Popen(
        [sys.executable, "-c", forker, str(folder.path)],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as parent:
        for _ in range(KILLS):
            parent.stdin.write("go\n")
            child = int(parent.stdout.readline())
            assert parent.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.005, 0.3))
            os.kill(child, signal.SIGKILL)
            time.sleep(0.05)
            interrupted += bool(list(folder.path.glob(".saving-*")))
            files = list_checkpoints(folder.path)
            for path in files:
                number = read_checkpoint(path).meta["number"]
                assert path.name == f"net-{number}_1.ckpt"
                assert (read_checkpoint(path).weights["weight"] == number).all()
            newest, complaints = folder.newest_valid()
            assert complaints == []
            if newest is None:
                continue
            number = read_checkpoint(newest).meta["number"]
            assert number >= progress
            progress = number
            # The pointer names a whole file; each kill between a file and its pointer leaves it one more behind.
            last = folder.pointed(LAST)
            assert last is None or read_checkpoint(last).meta["number"] <= number
        parent.stdin.close()
        parent.wait(30)
    assert progress > 3
    assert interrupted >= KILLS // 5, "the kills have to come while a file is being written"


def test_a_full_disk_is_an_error_and_harms_nothing(tmp_path, root):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.path.mkdir()
    process = script(FILLER, root, folder.path)
    process.communicate(timeout=100)
    assert process.returncode == 7
    assert [path.name for path in list_checkpoints(folder.path)] == ["net-1_1.ckpt"]
    assert not list(folder.path.glob(".*"))
    assert folder.pointed(LAST) == folder.newest_valid()[0]
    assert read_checkpoint(folder.pointed(LAST)).meta["number"] == 1
