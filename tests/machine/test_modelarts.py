"""Jobs of ModelArts against a stand-in for moxing, whose storage is a folder."""

import json
import multiprocessing
import os
import shutil
import sys
import time
import types
from pathlib import Path

import pytest

from modelarts import make_jobs
from src.errors import Interrupted, UsageError
from src.machine.modelarts import fetch_once, given, job_from, job_name, on_modelarts, split_options
from src.models import list_models
from src.settings.command_line import parse_arguments

ROOT = Path(__file__).resolve().parents[2]


class Storage:
    """moxing.file over a folder: obs://a/b is ``root/a/b``. Counts what is copied."""

    def __init__(self, root: Path):
        self.root = root
        self.copies: list[tuple[str, str]] = []

    def path(self, name: str) -> Path:
        return self.root / name.removeprefix("obs://") if name.startswith("obs://") else Path(name)

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def is_directory(self, name: str) -> bool:
        return self.path(name).is_dir()

    def list_directory(self, name: str) -> list[str]:
        return [path.name for path in self.path(name).iterdir()]

    def copy(self, source: str, target: str) -> None:
        self.copies.append((source, target))
        shutil.copy(self.path(source), self.path(target))

    def copy_parallel(self, source: str, target: str) -> None:
        self.copies.append((source, target))
        if not self.list_directory(source):
            raise OSError("No files to copy")
        shutil.copytree(self.path(source), self.path(target), dirs_exist_ok=True)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    storage = Storage(tmp_path / "storage")
    (storage.root / "bucket/images/train/cat").mkdir(parents=True)
    (storage.root / "bucket/images/train/cat/1.png").write_text("an image")
    (storage.root / "bucket/net.ckpt").write_text("weights")
    monkeypatch.setitem(sys.modules, "moxing", types.SimpleNamespace(file=storage))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("JOB_ID", "job-1")
    for name in ("DEVICE_ID", "RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE", "MS_ROLE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return storage


def words(tmp_path: Path, *more: str) -> list[str]:
    return [
        *("--enable_modelarts", "True", "--data_url", "obs://bucket/images", "--train_url=obs://bucket/out"),
        *("--data_path", str(tmp_path / "cache/data"), "--output_path", str(tmp_path / "cache/train"), *more),
    ]


def test_without_the_switch_nothing_happens_and_that_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "moxing", None)  # importing it would fail
    seen = []
    on_modelarts(seen.append, "train")(["--enable_modelarts=False", "--lr", "0.1", "--data_url", "obs://b/x"])
    on_modelarts(seen.append, "train")(["--data_path", "d"])
    assert seen == [["--lr", "0.1"], ["--data_path", "d"]]
    assert capsys.readouterr().out == "note: --data_url has no effect without --enable_modelarts True\n"


def test_what_the_platform_adds_is_passed_over_by_name(storage, tmp_path, capsys):
    def main(arguments: list[str]) -> None:
        assert parse_arguments(arguments, "train").model == "mnasnet"

    added = ["--init_method", "tcp://10.0.0.1:6666", "--num_gpus=8", "--multi_data_url", '[{"dataset_url": "obs://x"}]']
    on_modelarts(main, "train")(words(tmp_path, *added, "--pretrain_url=[]", "--model", "mnasnet"))
    printed = capsys.readouterr().out
    for name in ("init_method", "num_gpus", "multi_data_url", "pretrain_url"):
        assert f"note: --{name}, which the platform adds, has no effect: " in printed


@pytest.mark.parametrize("words", [["--data_url", "obs://b/x"], ["--train_url", "s3://b/x"]])
def test_an_object_storage_without_the_platform_is_one_line(storage, monkeypatch, tmp_path, words):
    monkeypatch.setitem(sys.modules, "moxing", None)
    here = ["--data_path", str(tmp_path / "data"), "--output_path", str(tmp_path / "out")]
    with pytest.raises(UsageError, match=r"only ModelArts has; give a local folder"):
        on_modelarts(lambda arguments: pytest.fail("started"), "train")(["--enable_modelarts", "True", *words, *here])


def test_training_fetches_images_and_brings_outputs_back(storage, tmp_path):
    def main(arguments: list[str]) -> None:
        config = parse_arguments(arguments, "train")
        assert (Path(config.data_path) / "train/cat/1.png").read_text() == "an image"
        Path(config.run_dir).mkdir(parents=True)
        (Path(config.run_dir) / "log.txt").write_text("done")

    on_modelarts(main, "train")(words(tmp_path, "--model", "mnasnet"))
    assert (storage.root / "bucket/out/job-1/log.txt").read_text() == "done"


@pytest.mark.parametrize("error", [RuntimeError("diverged"), Interrupted(15), UsageError("bad key")])
def test_outputs_come_back_after_a_failure(storage, tmp_path, error):
    def main(arguments: list[str]) -> None:
        (tmp_path / "cache/train/log.txt").write_text("so far")
        raise error

    with pytest.raises(type(error)):
        on_modelarts(main, "train")(words(tmp_path))
    assert (storage.root / "bucket/out/log.txt").read_text() == "so far"


def test_outputs_of_an_earlier_job_are_there_to_resume(storage, tmp_path):
    (storage.root / "bucket/out/job-0/checkpoints").mkdir(parents=True)
    (storage.root / "bucket/out/job-0/checkpoints/a.ckpt").write_text("old")

    def main(arguments: list[str]) -> None:
        run = Path(parse_arguments(arguments, "train").run_dir)
        assert (run / "checkpoints/a.ckpt").read_text() == "old"

    on_modelarts(main, "train")(words(tmp_path, "--run_dir", str(tmp_path / "cache/train/job-0"), "--resume", "auto"))


def test_nothing_written_is_no_error(storage, tmp_path):
    on_modelarts(lambda arguments: None, "train")(words(tmp_path))
    assert not (storage.root / "bucket/out").exists()


def test_only_rank_0_uploads_and_a_machine_fetches_once_per_job(storage, tmp_path, monkeypatch):
    table = {"RANK_TABLE_FILE": "t.json", "RANK_SIZE": "2"}
    for rank in ("0", "1"):
        for name, value in {**table, "RANK_ID": rank, "DEVICE_ID": rank}.items():
            monkeypatch.setenv(name, value)
        seen = []

        def main(arguments: list[str], seen=seen, rank=rank) -> None:
            seen.append(parse_arguments(arguments, "train").device_id)
            (tmp_path / "cache/train" / f"by_{rank}").touch()

        on_modelarts(main, "train")(words(tmp_path))
        assert seen == [int(rank)]
    assert [source for source, _ in storage.copies] == ["obs://bucket/images", str(tmp_path / "cache/train")]
    monkeypatch.setenv("JOB_ID", "job-2")
    monkeypatch.setenv("RANK_ID", "0")
    on_modelarts(lambda arguments: None, "train")(words(tmp_path))
    assert [source for source, _ in storage.copies].count("obs://bucket/images") == 2


def test_evaluation_gets_its_checkpoint(storage, tmp_path):
    def main(arguments: list[str]) -> None:
        config = parse_arguments(arguments, "eval")
        assert Path(config.checkpoint_path).read_text() == "weights"
        assert Path(config.checkpoint_path).name == "net.ckpt"
        Path(config.json).write_text("{}")

    load = ("--checkpoint_url", "obs://bucket/net.ckpt", "--load_path", str(tmp_path / "cache/load"))
    on_modelarts(main, "eval")(words(tmp_path, *load))
    assert (storage.root / "bucket/out/eval.json").read_text() == "{}"


def test_export_writes_where_outputs_are_taken_from(storage, tmp_path):
    load = ("--checkpoint_url", "obs://bucket/net.ckpt", "--load_path", str(tmp_path / "cache/load"))
    on_modelarts(lambda arguments: Path("net.mindir").write_text("graph"), "export")(words(tmp_path, *load))
    assert (storage.root / "bucket/out/net.mindir").read_text() == "graph"


def test_what_is_missing_in_the_storage_is_named(storage, tmp_path):
    with pytest.raises(UsageError, match="obs://bucket/absent does not exist"):
        on_modelarts(lambda arguments: None, "eval")(
            words(tmp_path, "--checkpoint_url", "obs://bucket/absent", "--load_path", str(tmp_path / "load"))
        )


def test_folders_the_platform_keeps_need_no_moxing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moxing", None)
    seen = []
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    on_modelarts(seen.append, "train")(["--enable_modelarts", "--data_url", str(inputs), f"--train_url={outputs}"])
    config = parse_arguments(seen[0], "train")
    assert config.data_path == str(inputs) and Path(config.run_dir).parent == outputs
    assert outputs.is_dir()


def test_flags_of_the_seeds_are_left_as_they_are():
    argv = ["--enable_modelarts=True", "--train_dataset_path", "/cache/data/train/train_dataset/", "--resume", "x.ckpt"]
    job = job_from(argv, "train", {})
    assert given(job.arguments, ("train_dataset_path",)) == "/cache/data/train/train_dataset/"
    assert given(job.arguments, ("data_path",)) is None
    job = job_from(["--enable_modelarts", "--ckpt_path=/cache/data/eval/checkpoint/a.ckpt"], "eval", {})
    assert given(job.arguments, ("checkpoint_path",)) is None
    assert given(job.arguments, ("val_data_path",)) == "/cache/data"


DOCUMENTED = "--enable_modelarts True --data_url obs://bucket/ImageNet_Original --_config_path=default_config.yaml"
CACHE = "/cache/data"


@pytest.mark.parametrize(
    ("program", "words", "keys"),
    [
        (
            "train",
            f"--is_distributed True --save_ckpt_path /cache/train/outputs_imagenet/ --model shufflenetv1 "
            f"--train_dataset_path {CACHE}/train/train_dataset/ --resume {CACHE}/train/train_predtrained/a.ckpt",
            {
                "is_distributed": True,
                "run_dir": "/cache/train/outputs_imagenet/",
                "data_path": f"{CACHE}/train/train_dataset/",
                "resume": f"{CACHE}/train/train_predtrained/a.ckpt",
            },
        ),
        ("train", f"--train_dataset_path {CACHE}/train --data_path {CACHE}", {"data_path": f"{CACHE}/train"}),
        ("train", f"--data_path={CACHE}/ --train_dataset_path={CACHE}/train", {"data_path": f"{CACHE}/train"}),
        (
            "train",
            f"--data_path {CACHE} --eval_dataset_path {CACHE}/eval",
            {"data_path": CACHE, "val_data_path": f"{CACHE}/eval"},
        ),
        ("train", f"--eval_dataset_path {CACHE}/eval", {"data_path": CACHE, "val_data_path": f"{CACHE}/eval"}),
        (
            "eval",
            f"--eval_dataset_path {CACHE}/eval/eval_dataset/ --ckpt_files {CACHE}/eval/checkpoint/a.ckpt "
            f"--data_path {CACHE}",
            {"val_data_path": f"{CACHE}/eval/eval_dataset/", "checkpoint_path": f"{CACHE}/eval/checkpoint/a.ckpt"},
        ),
        ("export", f"--ckpt_file {CACHE}/a.ckpt", {"checkpoint_path": f"{CACHE}/a.ckpt"}),
    ],
)
def test_the_steps_of_shufflenets_document_mean_what_it_says(program, words, keys, capsys):
    job = job_from([*DOCUMENTED.split(), *words.split()], program, {})
    assert (job.data, job.data_url) == (
        f"{CACHE}/" if f"{CACHE}/ " in words else CACHE,
        "obs://bucket/ImageNet_Original",
    )
    config = parse_arguments(job.arguments, program)
    assert {key: config[key] for key in keys} == keys
    assert "note: --config_path default_config.yaml: holds the defaults" in capsys.readouterr().out


def test_images_elsewhere_than_the_job_fetches_them_to_are_a_conflict():
    words = ["--enable_modelarts", "--data_path", CACHE, "--train_dataset_path", "/cache/other"]
    with pytest.raises(
        UsageError, match="--data_path /cache/data and --train_dataset_path /cache/other are two values"
    ):
        parse_arguments(job_from(words, "train", {}).arguments, "train")


def test_options_are_told_from_the_programs_flags():
    options, rest = split_options(["--lr", "0.1", "--enable-modelarts", "--data_url=obs://a", "--momentum", "0.9"])
    assert (options["enable_modelarts"], options["data_url"]) == ("True", "obs://a")
    assert rest == ["--lr", "0.1", "--momentum", "0.9"]
    with pytest.raises(UsageError, match="--train_url needs a value"):
        split_options(["--train_url"])
    with pytest.raises(UsageError, match="must be True or False"):
        job_from(["--enable_modelarts", "maybe"], "train", {})


def test_jobs_are_told_apart():
    assert job_name({"JOB_ID": "a"}) == "a"
    assert job_name({"MA_VJ_NAME": "b"}) == "b"
    assert job_name({}) == f"local-{os.getppid()}"


def _fetch_slowly(folder: str) -> None:
    os.environ["TMPDIR"] = folder

    def fetch(url: str, local: Path) -> None:
        with (Path(folder) / "count").open("a") as count:
            count.write("x")
        time.sleep(0.3)
        local.mkdir()

    import tempfile

    tempfile.tempdir = None
    fetch_once("obs://b/d", Path(folder) / "local", "job", fetch)
    assert (Path(folder) / "local").is_dir()


def test_ranks_at_the_same_time_fetch_once_and_all_wait(tmp_path):
    ranks = [multiprocessing.get_context("fork").Process(target=_fetch_slowly, args=(str(tmp_path),)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
    assert [rank.exitcode for rank in ranks] == [0] * 4
    assert (tmp_path / "count").read_text() == "x"


def test_a_failed_fetch_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))

    def fail(url: str, local: Path) -> None:
        raise OSError("timed out")

    with pytest.raises(OSError, match="timed out"):
        fetch_once("obs://b/d", tmp_path / "local", "job", fail)
    assert fetch_once("obs://b/d", tmp_path / "local", "job", lambda url, local: local.mkdir())
    assert not fetch_once("obs://b/d", tmp_path / "local", "job", fail)


def test_a_fetched_folder_that_is_gone_is_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    local = tmp_path / "local"
    assert fetch_once("obs://b/d", local, "job", lambda url, path: path.mkdir())
    local.rmdir()
    assert fetch_once("obs://b/d", local, "job", lambda url, path: path.mkdir())
    assert local.is_dir()
    assert not fetch_once("obs://b/d", local, "job", lambda url, path: path.rmdir())
    for other in (("obs://b/e", local, "job"), ("obs://b/d", tmp_path / "new", "job"), ("obs://b/d", local, "next")):
        assert fetch_once(*other, lambda url, path: path.mkdir(exist_ok=True))


def test_a_place_for_outputs_that_is_still_empty_is_no_error(storage, tmp_path):
    """ModelArts makes the folder of a job before its first run; copying nothing is an error for moxing."""
    (storage.root / "bucket/out").mkdir()
    on_modelarts(lambda arguments: (tmp_path / "cache/train/log.txt").touch(), "train")(words(tmp_path))
    assert [source for source, _ in storage.copies] == ["obs://bucket/images", str(tmp_path / "cache/train")]
    assert (storage.root / "bucket/out/log.txt").is_file()


def test_without_urls_nothing_is_fetched_or_brought_back(storage, tmp_path):
    seen = []
    output = str(tmp_path / "own")
    on_modelarts(seen.append, "train")(["--enable_modelarts", "--output_path", output, "--data_path", "mine"])
    assert storage.copies == []
    assert Path(output).is_dir()
    assert seen == [["--data_path", "mine", "--run_dir", f"{output}/job-1"]]


def test_only_export_works_where_outputs_are_taken_from(storage, tmp_path):
    places = []
    for program in ("train", "eval", "export"):
        on_modelarts(lambda arguments: places.append(Path.cwd()), program)(words(tmp_path))
    assert places == [tmp_path, tmp_path, tmp_path / "cache/train"]


@pytest.mark.parametrize(
    ("url", "load"),
    [
        ("", "/load"),
        ("obs://b/run", "/load"),
        ("obs://b/run/a.ckpt", "/load/a.ckpt"),
        ("s3://b/a.safetensors", "/load/a.safetensors"),
        ("/mnt/a.ckpt", "/mnt/a.ckpt"),
    ],
)
def test_where_the_checkpoint_is(url, load):
    job = job_from(["--enable_modelarts", "--load_path", "/load", "--checkpoint_url", url], "eval", {})
    assert given(job.arguments, ("checkpoint_path",)) == load


@pytest.mark.parametrize(
    ("argv", "environment", "added"),
    [
        ([], {}, None),
        ([], {"DEVICE_ID": "3"}, "3"),
        (["--device_id", "1"], {"DEVICE_ID": "3"}, "1"),
        (["--device_id=1"], {"DEVICE_ID": "3"}, "1"),
    ],
)
def test_the_card_is_the_platforms_unless_it_is_named(argv, environment, added):
    job = job_from(["--enable_modelarts", *argv], "train", environment)
    assert given(job.arguments, ("device_id",)) == added
    assert sum(word.startswith("--device_id") for word in job.arguments) == (added is not None)


@pytest.mark.parametrize(("text", "is_job"), [("true", True), ("1", True), ("YES", True), ("no", False), ("0", False)])
def test_the_switch(text, is_job):
    assert (job_from(["--enable_modelarts", text], "train", {}) is not None) == is_job
    assert job_from([], "train", {}) is None


@pytest.fixture(scope="module")
def jobs(tiny_model, tmp_path_factory) -> dict[tuple[str, str], dict]:
    """(network, program): the request that make_jobs.py writes, one network more being registered."""
    folder = tmp_path_factory.mktemp("jobs")
    make_jobs.main(folder)
    made = {(path.parent.name, path.stem): json.loads(path.read_text()) for path in folder.rglob("*") if path.is_file()}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json"}
    return made


def test_every_registered_network_has_its_jobs(jobs):
    assert set(jobs) == {(network, program) for network in list_models() for program in make_jobs.PROGRAMS}
    assert ("tiny", "train") in jobs and len(jobs) >= 24


def test_a_request_has_the_form_the_platform_asks_for(jobs):
    images = {
        "name": "data_url",
        "description": "images: train/ and val/ with a folder per class",
        "remote": {"obs": {"obs_url": "/BUCKET/imagenet/"}},
    }
    assert jobs["mnasnet", "train"] == {
        "kind": "job",
        "metadata": {"name": "mnasnet-train", "description": "train.py of mnasnet"},
        "algorithm": {
            "code_dir": "/BUCKET/code/",
            "boot_file": "/BUCKET/code/train.py",
            "engine": {"engine_name": "Ascend-Powered-Engine", "engine_version": "ENGINE_VERSION"},
            "parameters": [
                {"name": "enable_modelarts", "value": "True"},
                {"name": "device_target", "value": "Ascend"},
                {"name": "config_path", "value": "mnasnet_ascend_8p"},
                {"name": "is_distributed", "value": "True"},
            ],
            "inputs": [images],
            "outputs": [
                {
                    "name": "train_url",
                    "description": "what the job writes",
                    "remote": {"obs": {"obs_url": "/BUCKET/mnasnet/train/"}},
                }
            ],
        },
        "spec": {"resource": {"flavor_id": "FLAVOR_WITH_8_CARDS", "node_count": 1}},
    }
    for program, inputs in (("eval", ["data_url", "checkpoint_url"]), ("export", ["checkpoint_url"])):
        request = jobs["spos_oneshot", program]
        assert [each["name"] for each in request["algorithm"]["inputs"]] == inputs
        assert request["spec"]["resource"]["flavor_id"] == "FLAVOR_WITH_1_CARDS"
        parameters = {each["name"]: each["value"] for each in request["algorithm"]["parameters"]}
        assert parameters.get("file_format") == ("MINDIR" if program == "export" else None)


@pytest.mark.parametrize("network", ["tiny", *list_models()])
@pytest.mark.parametrize("program", make_jobs.PROGRAMS)
def test_jobs_start_what_exists(jobs, network, program):
    algorithm = jobs[network, program]["algorithm"]
    assert algorithm["boot_file"] == f"{algorithm['code_dir']}{program}.py" and (ROOT / f"{program}.py").is_file()
    argv = [f"--{each['name']}={each['value']}" for each in algorithm["parameters"]]
    argv += [f"--{each['name']}=/tmp/{each['name']}" for each in algorithm["inputs"] + algorithm["outputs"]]
    job = job_from(argv, program, {"JOB_ID": "1"})
    if program == "export":
        assert given(job.arguments, ("checkpoint_path",)) == "/tmp/checkpoint_url"
        return
    config = parse_arguments(job.arguments, program)
    assert config.device_target == "Ascend"
    if program == "train":
        assert config.model == network and config.is_distributed
        assert config.recipe == {"tiny": "", "spos": f"{network}_gpu_4p"}.get(
            network.partition("_")[0], f"{network}_ascend_8p"
        )
        assert config.data_path == "/tmp/data_url"
    else:
        assert config.checkpoint_path == "/tmp/checkpoint_url" and config.val_data_path == "/tmp/data_url"
