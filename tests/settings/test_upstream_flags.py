"""Command lines of the original repositories, read as ours."""

import re
import shlex

import pytest

from src.errors import UsageError
from src.settings.command_line import parse_arguments
from src.settings.config import DEFAULTS, load_config
from src.settings.recipes import RECIPE_FOLDER
from src.settings.upstream_flags import FLAGS, family_of, flags_of
from src.settings.yaml_text import flow

DATA = "/data/imagenet"
MODELS = {"spos": "spos_oneshot"}  # one of each original's networks, where it is not named as the table is

# Every flag of every table, for the programs above it: what is typed, and the keys it sets, what its note says or why
# it is refused.
ROWS = {
    "spnasnet": """
        train eval export:
        --dataset_name imagenet         | note: the folders of the data say what it is
        --name imagenet                 | note: the folders of the data say what it is
        --filter_prefix huawei          | note: our checkpoints need no prefix
        --pre_trained False             | {}
        --pre_trained                   | refused: --pretrained FILE starts from a checkpoint
        --epoch_size 180                | {epochs: 180}
        --T_max 180 --epoch_size 180    | {epochs: 180}
        --T_max 1                       | {}
        --T_max 90 --epoch_size 180     | refused: --T_max 90: here it is epochs, which is 180; give --epochs 90 too
        --image_height 96               | {image_size: 96}
        --image_width 96                | {image_size: 96}
        --lr_scheduler cosine_annealing | {lr_schedule: cosine_epoch}
        --lr_scheduler exponential      | {lr_schedule: milestone}
        --eta_min 0.001                 | {lr_end: 0.001}
        --is_dynamic_loss_scale 1       | {loss_scale_mode: dynamic}
        --is_dynamic_loss_scale 0       | {loss_scale_mode: fixed}
        --label_smooth_factor 0.2       | {label_smoothing: 0.2}
        --use_label_smooth False        | {label_smoothing: 0.0}
        --use_label_smooth              | {}
        train:
        --lr_init 0.26                  | {lr: 0.26} note: read as the peak, as Single-Path-NAS does
        --checkpoint_path ./ckpt_0      | note: eval.py reads it
        --ckpt_file a.ckpt              | note: eval.py reads it
        train eval:
        --file_name f                   | note: export.py names its files
        --file_format MINDIR            | note: export.py chooses the format
        eval:
        --data_path /data/val           | {val_data_path: /data/val}
        export:
        --ckpt_file a.ckpt              | {checkpoint_path: a.ckpt}
    """,
    "proxylessnas_mobile": """
        train eval export:
        --random_seed 7                 | {seed: 7}
        --rank 3                        | note: the launcher's environment
        --group_size 8                  | note: the launcher's environment
        --work_nums 3                   | {workers: 3}
        --epoch_size 360                | {epochs: 360}
        --save_ckpt_path ./             | {}
        --save_ckpt_path ./out          | {run_dir: ./out}
        --save_checkpoint False         | note: a run always keeps
        --resume_epoch 1                | note: a checkpoint knows its own epoch
        --train_batch_size 131          | {batch_size: 131}
        --val_batch_size 125            | {eval_batch_size: 125}
        --train_mini_steps 8            | note: it had none upstream either
        --coutout_length 40             | {cutout_length: 40}
        --label_smooth_factor 0.2       | {label_smoothing: 0.2}
        --enable_label_smooth False     | {label_smoothing: 0.0}
        --enable_label_smooth           | {}
        --use_pynative_mode             | {mode: pynative}
        --use_pynative_mode False       | {}
        --enable_graph_kernel           | note: the framework chooses its kernels
        --enable_reduce_precision True  | note: --amp_level says where
        --enable_profiling              | note: profiles are not taken
        train:
        --lr_init 0.2                   | {lr: 0.2} note: read as the peak, as ProxylessNAS does
        --dataset_path /data            | {data_path: /data}
        --checkpoint c.ckpt             | note: eval.py reads it
        --checkpoint_dir d              | note: eval.py reads it
        --enable_checkpoint_dir         | note: eval.py reads checkpoints
        --enable_eval_on_train_dataset  | note: eval.py evaluates
        train eval:
        --file_name f                   | note: export.py names its files
        --file_format MINDIR            | note: export.py chooses the format
        eval:
        --data_path /data               | {val_data_path: /data}
        --dataset_path /data            | {val_data_path: /data}
        --enable_eval_on_train_dataset  | refused: give the training folder as --val_data_path DIR/train
        --enable_eval_on_train_dataset False | {}
        eval export:
        --checkpoint c.ckpt             | {checkpoint_path: c.ckpt}
        --checkpoint_dir d              | {checkpoint_path: d}
        --enable_checkpoint_dir         | note: a folder of checkpoints is known as one
    """,
    "shufflenetv1": """
        train eval export:
        --model_size 1.0x               | {model_options: {size: 1.0x}}
        --epoch_size 250                | {epochs: 250}
        --save_ckpt_path ./checkpoint/  | {run_dir: ./checkpoint/}
        --save_checkpoint True          | note: a run always keeps
        --lr_max 0.5                    | {lr: 0.5}
        --decay_method steps            | {lr_schedule: steps}
        --decay_method=                 | {lr_schedule: linear}
        --decay_method sometimes        | refused: lr_schedule is 'sometimes'
        --lr_decay_mode cosine          | {}
        --lr_decay_mode other           | {lr_schedule: linear}
        --label_smooth_factor 0.2       | {label_smoothing: 0.2}
        --enable_profiling False        | note: profiles are not taken
        --is_transfer True              | note: --pretrained FILE of other classes
        train:
        --lr_init 0.01                  | {lr_init: 0.01}
        --train_dataset_path /data      | {data_path: /data}
        --dataset_path /data            | {data_path: /data}
        --eval_dataset_path /data/val   | {val_data_path: /data/val}
        --ckpt_path x.ckpt              | note: eval.py reads it
        --ckpt_file x.ckpt              | note: eval.py reads it
        --ckpt_files x.ckpt             | note: eval.py reads it
        train eval:
        --file_name f                   | note: export.py names its files
        --file_format MINDIR            | note: export.py chooses the format
        eval:
        --train_dataset_path /data      | {data_path: /data}
        --data_path /data               | {val_data_path: /data}
        --dataset_path /data            | {val_data_path: /data}
        --eval_dataset_path /data       | {val_data_path: /data}
        eval export:
        --ckpt_path x.ckpt              | {checkpoint_path: x.ckpt}
        --ckpt_file x.ckpt              | {checkpoint_path: x.ckpt}
        --ckpt_files x.ckpt             | {checkpoint_path: x.ckpt}
    """,
    "mnasnet": """
        train:
        /data/imagenet                  | {data_path: /data/imagenet}
        --dataset_path /data/imagenet   | {data_path: /data/imagenet}
        --device npu                    | {device_target: Ascend}
        --device gpu                    | {device_target: GPU}
        --npu 2                         | {device_id: 2}
        --gpu 3                         | {device_id: 3}
        -a resnet18                     | note: --model names the network
        --arch resnet18                 | note: --model names the network
        -j 4                            | {workers: 4}
        -b 512                          | {batch_size: 512}
        --batch-size 512                | {batch_size: 512} note: counts the images of all devices
        --batch_size 512                | {batch_size: 512}
        --multiprocessing-distributed   | {is_distributed: true}
        --run_distribute True           | {is_distributed: true}
        --amp                           | {amp_level: O1}
        --amp --opt-level O2            | {amp_level: O2}
        --amp False                     | {}
        --opt-level O3                  | {amp_level: O3}
        --loss-scale 128                | {loss_scale_mode: fixed, loss_scale: 128.0}
        --loss-scale dynamic            | {loss_scale_mode: dynamic}
        --loss_scale 128                | {loss_scale: 128.0}
        --device-list 2                 | {device_id: 2} note: the launcher gives each process its own
        --device-list 0,1,2,3           | note: the launcher gives each process its own
        --world-size 1                  | note: the launcher's environment
        --rank 0                        | note: the launcher's environment
        --local_rank 0                  | note: the launcher's environment
        --dist-url tcp://127.0.0.1:1    | note: the launcher's environment
        --dist-backend hccl             | note: the device decides
        --run-prof                      | note: profiles are not taken
        -p 10                           | {log_steps: 10}
        --print-freq 20                 | {log_steps: 20}
        --wd 1e-4                       | {weight_decay: 1e-4}
        --warmup 5 --epochs 6           | {warmup_epochs: 5, epochs: 6}
        --ls 0.2                        | {label_smoothing: 0.2}
        --label-smoothing 0.2           | {label_smoothing: 0.2}
        --start-epoch 3                 | note: a checkpoint knows its own epoch
        -e                              | refused: use python eval.py
        --evaluate                      | refused: use python eval.py
    """,
    "spos": """
        train eval export:
        --model ShuffleNas_fixArch      | {}
        --use-se                        | {model_options: {use_se: true}}
        --last-conv-after-pooling       | {model_options: {last_conv_after_pooling: true}}
        --channels-layout ShuffleNetV2+ | {model_options: {layout: ShuffleNetV2+}}
        --block-choices '0, 0, 3, 1'    | {model_options: {block_choices: '0, 0, 3, 1'}}
        --channel-choices '6, 5, 3, 5'  | {model_options: {channel_choices: '6, 5, 3, 5'}}
        --input-size 96                 | {image_size: 96}
        --crop-ratio 0.875              | {}
        --crop-ratio 0.8                | {eval_resize: 280}
        --crop-ratio 0.9 --input-size 96 | {image_size: 96, eval_resize: 107}
        --crop-ratio 1.5                | refused: --crop-ratio must be above 0 and at most 1, not 1.5
        --crop-ratio half               | refused: --crop-ratio must be a number, not 'half'
        --num-workers 3                 | {workers: 3}
        -j 3                            | {workers: 3}
        --num-gpus 0                    | {device_target: CPU}
        --num-gpus 1                    | {}
        --num-gpus 4                    | {is_distributed: true}
        --num-gpus all                  | refused: --num-gpus must be a whole number, not 'all'
        --dtype float16                 | {amp_level: O2}
        --dtype float32                 | {}
        train:
        --model ShuffleNas              | {train_supernet: true}
        --rec-train /rec/train.rec      | {data_path: /rec/train.rec}
        --data-dir /data                | {data_path: /data}
        --use-rec                       | note: data_path says by what lies there
        --num-data-workers 3            | {workers: 3}
        --num-epochs 120                | {epochs: 120}
        --lr 0.65                       | {lr: 0.65}
        --batch-size 64                 | {batch_size: 64}
        --wd 0.00004                    | {weight_decay: 0.00004}
        --lr-mode cosine                | {}
        --lr-mode step                  | {lr_schedule: milestone}
        --lr-mode poly                  | {lr_schedule: poly}
        --lr-decay 0.2                  | {lr_gamma: 0.2}
        --lr-decay-epoch 40,60          | {lr_epochs: [40, 60]}
        --lr-decay-period 0             | {}
        --lr-decay-period 30 --num-epochs 90 | {epochs: 90, lr_epochs: [30, 60]}
        --lr-decay-period 30            | refused: it needs --num-epochs too
        --warmup-lr 0.1                 | note: --lr_init changes that
        --warmup-epochs 5               | {warmup_epochs: 5}
        --last-gamma                    | note: it is for ResNets
        --mode hybrid                   | note: the supernet too
        --mode symbolic                 | note: the supernet too
        --mode imperative               | note: the supernet too
        --mode pynative                 | {mode: pynative} note: the supernet too
        --use-pretrained                | refused: --pretrained FILE starts from a file
        --mixup                         | refused: images are not mixed here
        --mixup-alpha 0.2               | note: images are not mixed here
        --mixup-off-epoch 3             | note: images are not mixed here
        --label-smoothing               | {}
        --label-smoothing False         | {label_smoothing: 0.0}
        --label-smoothing 0.05          | {label_smoothing: 0.05}
        --label_smoothing 0.05          | {label_smoothing: 0.05}
        --no-wd                         | {}
        --no-wd False                   | {weight_decay_on: all}
        --teacher resnet50              | refused: there is no distillation here
        --temperature 20                | note: it is for a teacher
        --hard-weight 0.5               | note: it is for a teacher
        --batch-norm                    | note: it is for VGG
        --use-gn                        | refused: these networks have batch norms
        --save-frequency 10             | {save_checkpoint_epochs: 10}
        --save-dir params               | {run_dir: params}
        --resume-epoch 3                | note: a checkpoint knows its own epoch
        --resume-params a.ckpt          | {resume: a.ckpt}
        --resume-states a.states        | note: a checkpoint holds the optimizer's state
        --log-interval 50               | {log_steps: 50}
        --logging-file a.log            | note: the run folder holds log.txt
        --use-all-blocks                | refused: a step trains one op a position
        --epoch-start-cs 60             | {channel_start_epoch: 60, channel_warm_up: false}
        --epoch-start-cs 60 --cs-warm-up | {channel_start_epoch: 60}
        --epoch-start-cs -1             | {channel_start_epoch: 0, channel_warm_up: false}
        --use-all-channels              | {}
        --use-all-channels --epoch-start-cs -1 | {}
        --use-all-channels --epoch-start-cs 60 | {channel_start_epoch: 60, channel_warm_up: false}
        --ignore-first-two-cs           | {ignore_first_two_cs: true}
        --reduced-dataset-scale 1       | {}
        --reduced-dataset-scale 4       | refused: --max_steps N ends a run early
        --flop-param-method symbol      | note: costs are exact
        --train-constraint-method=      | {}
        --train-constraint-method never | refused: must be random or evolution, not 'never'
        --train-upper-constraints flops-330-params-5.0  | refused: Give --train-constraint-method random or evolution
        --train-bottom-constraints flops-190-params-2.8 | refused: Give --train-constraint-method random or evolution
        --train-constraint-method random --train-upper-constraints flops-330-params-5.0 \\
            | {path_sampler: random, path_constraints: {flops: [0.0, 330.0], params: [0.0, 5.0]}}
        --train-constraint-method evolution --train-upper-constraints flops-300-params-5.0 \\
            --train-bottom-constraints flops-190-params-0 \\
            | {path_sampler: strolling, stroll: {flops_high: 300.0, flops_low: 190.0, params_high: 5.0}}
        --train-constraint-method random --train-upper-constraints 330 \\
            | refused: --train-upper-constraints must be like flops-330-params-5.0
        train search:
        --rec-train-idx /rec/train.idx  | note: the index is that beside the .rec
        eval:
        --data_path /data               | {val_data_path: /data}
        train eval search:
        --rec-val /rec/val.rec          | {val_data_path: /rec/val.rec}
        --rec-val-idx /rec/val.idx      | note: the index is that beside the .rec
        search:
        --rec-train /rec/train.rec      | {data_path: /rec/train.rec}
        --input-size 96                 | {image_size: 96}
        --crop-ratio 0.8                | {eval_resize: 280}
        --num-workers 3                 | {workers: 3}
        -j 3                            | {workers: 3}
        --num-gpus 4                    | {is_distributed: true}
        --dtype float16                 | {amp_level: O2}
        --batch-size 128                | {batch_size: 128}
        --shuffle-train False           | note: drawn once, from the supernet's seed
        --use-se                        | note: the supernet's checkpoint knows
        --last-conv-after-pooling       | note: the supernet's checkpoint knows
        --supernet-params a.ckpt        | {supernet: a.ckpt}
        --search-mode random            | {search_method: random}
        --search-mode genetic           | {}
        --comparison-model MobileNetV3_large | {comparison_model: MobileNetV3_large}
        --topk 5                        | {search_top: 5}
        --search-iters 10               | {search_generations: 10}
        --update-bn-images 500          | {calibration_images: 500}
        --search-target acc             | {}
        --search-target balanced_flop_acc | {search_target: balanced}
        --search-target balanced        | {search_target: balanced}
        --flop-max 0.9                  | {search_constraints: {flops_ratio: [0, 0.9], score: [0, 1]}}
        --flop-max -1 --param-max 1.2   | {search_constraints: {params_ratio: [0, 1.2], score: [0, 1]}}
        --param-max 1.2 | {search_constraints: {flops_ratio: [0, 1], params_ratio: [0, 1.2], score: [0, 1]}}
        --param-max much                | refused: --flop-max and --param-max must be a number, not 'much'
        --score-acc-ratio 2             | {score_ratio: 2.0}
        --fixed-block-choices '0, 3'    | {fixed_block_choices: [0, 3], search_scope: channels}
        --fixed-channel-choices '6, 5'  | {fixed_channel_choices: [6, 5], search_scope: blocks}
        --fixed-channel-choices=        | {}
        --population-size 500           | {search_population: 500}
        --retain-length 100             | {search_retain: 100}
        --random-select 0.2             | {search_survive: 0.2}
        --mutate-chance 0.3             | {search_mutation: 0.3}
    """,
}


def rows() -> list[tuple[str, str, str, str]]:
    """(network, program, what is typed, what comes of it)."""
    found = []
    for network, text in ROWS.items():
        programs: list[str] = []
        for line in text.replace("\\\n", " ").strip().splitlines():
            typed, bar, outcome = line.partition("|")
            if bar:
                found += [(network, program, typed.strip(), outcome.strip()) for program in programs]
            else:
                programs = line.strip(" :").split()
    return found


@pytest.mark.parametrize(("network", "program", "typed", "outcome"), rows())
def test_a_flag_means_what_it_meant(network, program, typed, outcome, capsys):
    model = [] if "--model " in typed or program == "search" else ["--model", MODELS.get(network, network)]
    words = [*model, *shlex.split(typed)]
    refusal = outcome.partition("refused: ")[2]
    if refusal:
        with pytest.raises(UsageError, match=re.escape(refusal)):
            parse_arguments(words, program)
        return
    keys, _, note = outcome.partition("note: ")
    base = {**DEFAULTS, "model": "" if program == "search" else MODELS.get(network, network)}
    values = parse_arguments(words, program).values()
    assert {key: value for key, value in values.items() if value != base[key]} == (flow(keys) if keys else {})
    said = capsys.readouterr().out
    assert said.count("note: ") == bool(note)
    assert note in said


@pytest.mark.parametrize(("network", "program"), [(name, program) for name in FLAGS for program in FLAGS[name]])
def test_every_flag_of_a_table_has_a_row(network, program):
    tried = set()
    for row in rows():
        if row[:2] == (network, program):
            names = [word.lstrip("-").partition("=")[0] for word in shlex.split(row[2]) if word[0] == "-"]
            tried |= {*names, *(name.replace("-", "_") for name in names)} or {""}
    assert set(FLAGS[network][program]) <= tried


def test_rows_are_of_tables_that_exist():
    assert {row[:2] for row in rows()} >= {(network, program) for network in FLAGS for program in FLAGS[network]}
    assert all(flags_of(program, MODELS.get(network, network)) for network, program, _, _ in rows())


@pytest.mark.parametrize(
    ("model", "family"),
    [("spos_oneshot_plus", "spos"), ("ShuffleNas", "spos"), ("mnasnet", "mnasnet"), ("anything", ""), ("", "")],
)
def test_a_network_belongs_to_an_original(model, family):
    assert family_of(model) == family


@pytest.mark.parametrize(
    ("words", "program", "said"),
    [
        ("--epochs=3 --epoch_size=4", "train", "--epochs 3 and --epoch_size 4 are two values of one key, epochs"),
        ("--dataset_path a --train_dataset_path b", "train", "--dataset_path a and --train_dataset_path b are two"),
        ("--model shufflenetv1 --data_path a --train_dataset_path b", "train", "--data_path a and --train"),
        ("a --data_path b", "train", "--data_path b and 'a' are two values of one key, data_path"),
        ("--image_height 96 --image_width 64", "train", "are two values of one key, image_size"),
        ("--model mnasnet -b 512 --batch_size 256", "train", "--batch_size 256 and -b 512 are two"),
        ("--model spos_oneshot --num-workers 2 -j 3", "train", "are two values of one key, workers"),
        ("--search-iters 3 --search_generations 4", "search", "--search_generations 4 and --search_iters 3 are two"),
        ("--ckpt_file a --checkpoint_path b", "eval", "--checkpoint_path b and --ckpt_file a are two"),
    ],
)
def test_two_spellings_with_two_values_are_refused(words, program, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_arguments(words.split(), program)


@pytest.mark.parametrize("words", ["--epochs=3 --epoch_size=3", "--lr_max 1 --lr 1", "-j 2 --workers 2"])
def test_two_spellings_of_one_value_agree(words):
    assert parse_arguments(words.split(), "train")


def test_the_network_of_a_recipe_or_a_run_decides_what_a_flag_means(tmp_path):
    (tmp_path / "config.yaml").write_text("model: spos_oneshot\n")
    for words in (["--config_path", "spos_supernet"], [f"--resume={tmp_path}"], ["--model", "ShuffleNas"]):
        assert parse_arguments([*words, "--label-smoothing", "--seed", "3"], "train").label_smoothing == 0.1
    for words in ([], ["--model", "mnasnet"], ["--config_path", "spnasnet_gpu_1p"], ["--config_path", "mnasnet_cpu"]):
        with pytest.raises(UsageError, match="--label_smoothing needs a value"):
            parse_arguments([*words, "--label-smoothing", "--seed", "3"], "train")


@pytest.mark.parametrize(
    ("words", "devices", "said"),
    [
        ("--model mnasnet --device-list 0,1", "8", "--device-list names 2 cards, but 8 processes were started"),
        ("--model spos_oneshot --num-gpus 4", "2", "--num-gpus names 4 cards, but 2 processes were started"),
        ("--model mnasnet --batch-size 100", "8", "must be a multiple of their number, 8"),
    ],
)
def test_other_cards_than_were_started_are_refused(monkeypatch, words, devices, said):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", devices)
    with pytest.raises(UsageError, match=said):
        parse_arguments(words.split(), "train")


def changed(config, recipe: str) -> dict:
    """What a command line changed in ``recipe``."""
    base = load_config(recipe)
    return {key: value for key, value in config.values().items() if value != base[key]}


README_LINES = {
    "spnasnet train": (
        "train",
        "spnasnet_ascend_1p",
        "--dataset_name imagenet --filter_prefix huawei --device_id=3 --device_target=Ascend "
        "--data_path=/data/imagenet/train",
        {"device_id": 3, "data_path": f"{DATA}/train"},
    ),
    "spnasnet eval": (
        "eval",
        "spnasnet_gpu_1p",
        "--checkpoint_path ./ckpt_0 --device_id 1 --device_target Ascend "
        "--val_data_path /data/imagenet/val --dataset_name imagenet",
        {"checkpoint_path": "./ckpt_0", "device_id": 1, "device_target": "Ascend", "val_data_path": f"{DATA}/val"},
    ),
    "spnasnet export": (
        "export",
        "spnasnet_ascend_1p",
        "--device_id 0 --batch_size 1 --ckpt_file single-path-nas.ckpt --device_target GPU",
        {"batch_size": 1, "checkpoint_path": "single-path-nas.ckpt", "device_target": "GPU"},
    ),
    "proxylessnas train, eight Ascends": (
        "train",
        "proxylessnas_mobile_ascend_8p",
        "--device_id=5 --device_target=Ascend --is_distributed=True --dataset_path=/data/imagenet",
        {"device_id": 5, "data_path": DATA},
    ),
    "proxylessnas train, one GPU": (
        "train",
        "proxylessnas_mobile_gpu_1p",
        "--is_distributed=False --device_target=GPU --device_id=0 --drop_remainder=True "
        "--dataset_path=/data/imagenet/train",
        {"data_path": f"{DATA}/train"},
    ),
    "proxylessnas train, every key": (
        "train",
        "proxylessnas_mobile_ascend_1p",
        "--num_classes 1000 --rank 0 --group_size 1 --epoch_size 3 --keep_checkpoint_max 80 --save_ckpt_path ./out/ "
        "--save_checkpoint_epochs 2 --save_checkpoint True --is_distributed False --resume r.ckpt --resume_epoch 1 "
        "--random_seed 7 --work_nums 4 --cutout False --cutout_length 40 --amp_level O0 --enable_graph_kernel False "
        "--enable_reduce_precision True --scale_factor 4 --scale_window 1000 --train_batch_size 64 "
        "--train_mini_steps 8 --val_batch_size 50 --enable_eval_on_train_dataset False --drop_remainder True "
        "--lr_init 0.1 --enable_label_smooth True --label_smooth_factor 0.2 --weight_decay 4e-5 --momentum 0.8 "
        "--use_pynative_mode True --checkpoint c.ckpt --enable_checkpoint_dir False --checkpoint_dir d "
        "--file_name f --file_format MINDIR",
        {
            "num_classes": 1000,
            "epochs": 3,
            "run_dir": "./out/",
            "save_checkpoint_epochs": 2,
            "resume": "r.ckpt",
            "seed": 7,
            "workers": 4,
            "cutout": False,
            "cutout_length": 40,
            "amp_level": "O0",
            "scale_factor": 4,
            "scale_window": 1000,
            "batch_size": 64,
            "eval_batch_size": 50,
            "drop_remainder": True,
            "lr": 0.1,
            "label_smoothing": 0.2,
            "weight_decay": 4e-5,
            "momentum": 0.8,
            "mode": "pynative",
        },
    ),
    "proxylessnas eval": (
        "eval",
        "proxylessnas_mobile_ascend_1p",
        "--device_target Ascend --device_id 0 --dataset_path /data/imagenet --checkpoint ./ckpt_0/a.ckpt",
        {"val_data_path": DATA, "checkpoint_path": "./ckpt_0/a.ckpt"},
    ),
    "proxylessnas eval of a folder": (
        "eval",
        "proxylessnas_mobile_ascend_1p",
        "--enable_checkpoint_dir True --checkpoint_dir ./ckpt_0 --checkpoint= --dataset_path /data/imagenet/val",
        {"val_data_path": f"{DATA}/val", "checkpoint_path": "./ckpt_0"},
    ),
    "proxylessnas export": (
        "export",
        "proxylessnas_mobile_ascend_1p",
        "--device_target=Ascend --device_id=0 --checkpoint=./a.ckpt",
        {"checkpoint_path": "./a.ckpt"},
    ),
    "shufflenetv1 train, eight Ascends": (
        "train",
        "shufflenetv1_ascend_8p",
        "--is_distributed=True --device_target=Ascend --train_dataset_path=/data/imagenet/train",
        {"data_path": f"{DATA}/train"},
    ),
    "shufflenetv1 train, every key": (
        "train",
        "shufflenetv1_gpu_1p",
        "--model_size 1.0x --train_dataset_path /data/imagenet/train --eval_dataset_path /data/imagenet/val "
        "--epoch_size 9 --decay_method steps_decay --lr_init 0.01 --lr_max 0.4 --lr_end 0.001 --warmup_epochs 3 "
        "--loss_scale 512 --save_ckpt_path ./ --ckpt_path x.ckpt --label_smooth_factor 0.05",
        {
            "model_options": {"pooling": "same", "size": "1.0x"},
            "data_path": f"{DATA}/train",
            "val_data_path": f"{DATA}/val",
            "epochs": 9,
            "lr_schedule": "steps_decay",
            "lr_init": 0.01,
            "lr": 0.4,
            "lr_end": 0.001,
            "warmup_epochs": 3,
            "loss_scale": 512.0,
            "label_smoothing": 0.05,
        },
    ),
    "shufflenetv1 eval": (
        "eval",
        "shufflenetv1_gpu_1p",
        "--device_target=GPU --eval_dataset_path=/data/imagenet/val --ckpt_path=shufflenetv1-250_1251.ckpt",
        {"val_data_path": f"{DATA}/val", "checkpoint_path": "shufflenetv1-250_1251.ckpt"},
    ),
    "mnasnet train, one Ascend": (
        "train",
        "mnasnet_ascend_1p",
        "/data/imagenet --device npu --npu 2 -a resnet18 -j 16 -b 512 -p 20 --epochs 6 --warmup 5 --lr 0.7 "
        "--momentum 0.9 --wd 1e-5 --label-smoothing 0.1 --start-epoch 0 --world-size 1 --rank 0 "
        "--dist-url tcp://127.0.0.1:29688 --dist-backend hccl --device-list 2 --local_rank 0 --seed 9 "
        "--run-prof --print-freq=20",
        {"data_path": DATA, "device_id": 2, "workers": 16, "log_steps": 20, "epochs": 6, "seed": 9},
    ),
    "mnasnet, the MindSpore port": (
        "train",
        "mnasnet_gpu_8p",
        "--device_target GPU --dataset_path /data/imagenet --run_distribute True --device_id 0",
        {"data_path": DATA},
    ),
}


@pytest.mark.parametrize("line", README_LINES)
def test_a_command_line_of_upstream_means_what_it_meant(line):
    program, recipe, words, keys = README_LINES[line]
    config = parse_arguments(["--config_path", recipe, *words.split()], program)
    assert changed(config, recipe) == keys


# What the five READMEs show to be typed, with a network named where the original had only one.
TYPED = {
    "spnasnet": """
        train.py --device_id=0 --device_target="Ascend" --data_path=/imagenet/train
        train.py --device_id=0 --device_target="GPU" --data_path=/imagenet/train
        eval.py --checkpoint_path=./ckpt_0 --val_data_path=/imagenet/val --device_id=0 --device_target="Ascend"
        eval.py --device_target="GPU" --device_id=0 --val_data_path="/path/to/imagenet/val/" --checkpoint_path ./ckpt_0
        export.py --ckpt_file [CKPT_FILE] --device_target Ascend""",
    "proxylessnas_mobile": """
        export.py --device_target GPU --checkpoint [CHECKPOINT_FILE] --file_format ONNX --file_name [NAME]""",
    "shufflenetv1": """
        train.py --train_dataset_path /home/DataSet/ImageNet_Original/train
        train.py --config_path ./gpu_default_config.yaml --device_target GPU --train_dataset_path [TRAIN_DATA_DIR]
        train.py --config_path ./gpu_default_config.yaml --train_dataset_path [TRAIN_DATA_DIR] --is_distributed=True \\
            --device_target=GPU
        train.py --config_path=./transfer_config.yaml
        eval.py --eval_dataset_path /home/validation_preprocess --ckpt_path /home/ckpt/shufflenetv1-250_1251
        eval.py --config_path ./gpu_default_config.yaml --eval_dataset_path [DATA_DIR] --ckpt_path [PATH_CHECKPOINT]
        eval.py --config_path=./transfer_config.yaml
        export.py --ckpt_path [CKPT_PATH] --device_target CPU --file_format MINDIR --batch_size 1""",
    "mnasnet": """
        train.py /data/imagenet --device npu --npu 0""",
}
LINES = [(model, line) for model, text in TYPED.items() for line in text.replace("\\\n", " ").strip().splitlines()]


@pytest.mark.parametrize(("model", "line"), LINES)
def test_what_a_readme_shows_is_understood_to_the_last_word(model, line, capsys):
    program, *words = shlex.split(line)
    if "config_path" not in line:
        words = ["--model", model, *words]
    if program == "export.py":
        pytest.importorskip("mindspore", reason="export.py reads its own flags beside what exports")
        from src.export.options import parse as read
    else:

        def read(argv):
            return None, parse_arguments(argv, program[:-3])

    config = read(words)[1]
    assert config.model == model
    given = " ".join(words).replace("=", " ").split()
    for key in ("device_target", "is_distributed"):
        assert f"--{key}" not in given or str(config[key]) == given[given.index(f"--{key}") + 1]
    data = config.data_path if program == "train.py" else config.checkpoint_path
    assert bool(data) == ("transfer" not in line)
    assert capsys.readouterr().out == ""


def test_a_flag_without_its_equals_sign_is_named():
    """Single-Path-NAS's README has it so."""
    with pytest.raises(UsageError, match=r"no flag '--val_data_path/imagenet/val' \(did you mean 'val_data_path'"):
        parse_arguments(["--checkpoint_path=./ckpt_0", "--val_data_path/imagenet/val"], "eval")


def test_a_network_named_by_model_serves_as_well():
    config = parse_arguments(["--model", "spnasnet", "--device_target=Ascend", "--data_path=/data"], "train")
    assert (config.model, config.device_target, config.data_path) == ("spnasnet", "Ascend", "/data")


@pytest.mark.parametrize("order", [1, -1])
def test_switching_off_wins_in_any_order(order):
    words = ["--enable_label_smooth=False", "--label_smooth_factor=0.2"][::order]
    assert parse_arguments(words, "train").label_smoothing == 0


@pytest.mark.parametrize("switch", ["--enable_label_smooth", "--enable_label_smooth=True"])
def test_a_switch_that_is_on_leaves_the_recipe_alone(switch):
    assert changed(parse_arguments(["--config_path=spnasnet_gpu_1p", switch], "train"), "spnasnet_gpu_1p") == {}


@pytest.mark.parametrize(
    ("words", "lr", "lr_init"),
    [
        ("--model proxylessnas_mobile --lr_init 0.2", 0.2, 0.0),
        ("--model proxylessnas_mobile --lr_init 0.2 --lr 0.5", 0.5, 0.2),
        ("--model proxylessnas_mobile --lr_init 0.2 --lr_max 0.5", 0.5, 0.2),
        ("--config_path proxylessnas_mobile_cpu --lr_init 0.2", 0.2, 0.0),
        ("--model shufflenetv1 --lr_init 0.01 --lr_max 0.5", 0.5, 0.01),
        ("--model shufflenetv1 --lr_init 0.01", DEFAULTS["lr"], 0.01),
        ("--model spnasnet --lr_init 0.26", 0.26, 0.0),
        ("--config_path spnasnet_gpu_1p --lr_init 0.26 --lr 0.5", 0.5, 0.26),
    ],
)
def test_lr_init_is_the_peak_of_two_networks_unless_that_is_given_too(words, lr, lr_init):
    config = parse_arguments(words.split(), "train")
    assert (config.lr, config.lr_init) == (lr, lr_init)


@pytest.mark.parametrize(
    ("file", "recipe"),
    [("transfer_config.yaml", "shufflenetv1_transfer"), ("./gpu_default_config.yaml", "shufflenetv1_gpu_1p")],
)
def test_shufflenets_configuration_files_hold_its_recipes_until_they_are_edited(monkeypatch, tmp_path, file, recipe):
    monkeypatch.chdir(tmp_path)  # found from anywhere
    assert dict(parse_arguments([f"--config_path={file}"], "train")) == dict(load_config(recipe))


def test_a_file_is_edited_in_the_words_of_its_document(tmp_path):
    edited = tmp_path / "transfer_config.yaml"
    text = (RECIPE_FOLDER.parent / "transfer_config.yaml").read_text()
    assert text.count('resume: ""\ndataset_path: ""\n') == 1
    text = text.replace('resume: ""\ndataset_path: ""', "resume: net.ckpt\ndataset_path: flowers\nmodel_size: 0.5x")
    edited.write_text(text.replace("epochs: 100", "epoch_size: 7").replace("model_options: {pooling: same}\n", ""))
    config = load_config(edited)
    assert (config.resume, config.data_path, config.epochs) == ("net.ckpt", "flowers", 7)
    assert config.model_options == {"size": "0.5x"} and config.val_share == 0.2
    edited.write_text("{model: shufflenetv1, epochs: 100, epoch_size: 7}")
    with pytest.raises(UsageError, match=r"transfer_config.yaml: epoch_size and epochs are one key with two values"):
        load_config(edited)


@pytest.mark.parametrize("flag", ["--dataset_path=", "--train_dataset_path=", "--eval_dataset_path="])
def test_an_empty_path_was_not_given(tmp_path, flag):
    """The originals' scripts hand on what was not typed as an empty text."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{data_path: here, val_data_path: there}")
    config = parse_arguments([f"--config_path={recipe}", flag], "train")
    assert (config.data_path, config.val_data_path) == ("here", "there")


def test_a_file_of_the_users_wins_over_a_name_of_shufflenets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "transfer_config.yaml").write_text("model: mnasnet\n")
    assert load_config("./transfer_config.yaml").model == "mnasnet"


def test_a_total_batch_is_shared_out(monkeypatch):
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK_SIZE", "8")
    assert parse_arguments(["-b", "4096"], "train").batch_size == 512
    with pytest.raises(UsageError, match="multiple of their number, 8"):
        parse_arguments(["-b", "100"], "train")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert parse_arguments(["-b", "4096"], "train").batch_size == 1024


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        ("train", "DATA --evaluate", "use python eval.py"),
        ("train", "DATA -e", "use python eval.py"),
        ("eval", "--enable_eval_on_train_dataset True", "--val_data_path DIR/train"),
        ("train", "--pretrained", "--pretrained needs a value"),
        ("train", "--decay_method sometimes", "lr_schedule"),
    ],
)
def test_what_cannot_be_done_says_what_can(program, words, said):
    with pytest.raises(UsageError, match=said):
        parse_arguments(words.split(), program)


@pytest.mark.parametrize("flag", ["multiprocessing-distributed", "run_distribute"])
def test_one_process_can_be_asked_for_whatever_the_recipe_says(tmp_path, flag):
    (tmp_path / "recipe.yaml").write_text("is_distributed: true\n")
    words = ["--config_path", str(tmp_path / "recipe.yaml")]
    assert parse_arguments([*words, f"--{flag}=False"], "train").is_distributed is False
    assert parse_arguments([*words, f"--{flag}"], "train").is_distributed is True


def test_a_flag_with_a_meaning_is_quiet(capsys):
    parse_arguments(["--dataset_path=/data", "--epoch_size=3", "--config_path=proxylessnas_mobile_gpu_1p"], "train")
    assert capsys.readouterr().out == ""


def test_a_switch_without_effect_takes_no_value_that_is_none_of_its_own(capsys):
    assert parse_arguments(["--save_checkpoint", "--seed", "3"], "train").seed == 3
    assert capsys.readouterr().out == f"note: --save_checkpoint: {flags_of('train')['save_checkpoint'].note}\n"
    with pytest.raises(UsageError, match="--resume_epoch needs a value"):
        parse_arguments(["--resume_epoch", "--seed", "3"], "train")


def test_flags_of_unknown_networks_shadow_no_key_but_where_all_originals_meant_another():
    known = {name.replace("-", "_") for program in ("train", "eval", "export") for name in flags_of(program)}
    shadowed = known & set(DEFAULTS)
    assert shadowed == {"data_path"}


@pytest.mark.parametrize("flag", ["--config_path", "--_config_path"])
def test_the_file_of_defaults_is_no_recipe_unless_it_was_edited(tmp_path, flag, capsys):
    config = parse_arguments(["--config_path=spnasnet_gpu_1p", flag, "default_config.yaml"], "train")
    assert config.values() == load_config("spnasnet_gpu_1p").values()
    assert "holds the defaults" in capsys.readouterr().out
    edited = tmp_path / "default_config.yaml"
    edited.write_text("model: mnasnet\n")
    assert parse_arguments([f"{flag}={edited}"], "train").model == "mnasnet"
    assert capsys.readouterr().out == ""
