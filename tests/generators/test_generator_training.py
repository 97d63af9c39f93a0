import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from generator_cases import config, training_set, untrained_pipe

from reid_aug.config import GeneratorConfig, load_config
from reid_aug.errors import CheckpointError, ConfigError, DataError, OutputError, TrainingError
from reid_aug.generators import training
from reid_aug.generators.learner import Learner
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.run_folder import is_trained
from reid_aug.generators.systems import build_denoiser
from reid_aug.generators.training import train_generator

HERE = Path(__file__).parent
OWN_MODULES = os.pathsep.join(map(str, (HERE, HERE.parent)))
KILLED = """
import time
from generator_cases import config, training_set
from reid_aug.generators.training import train_generator
from reid_aug.generators import training
training.LOG_EVERY = 1
def slow(done, loss):
    print(done, flush=True)
    time.sleep(0.2 if done > 4 else 0)
train_generator(*training_set(), config(training={{"iterations": 8, "checkpoint_every": 2}}), {out!r}, progress=slow)
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_generator(folder).denoiser.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_leaves_a_generator_its_settings_a_sheet_and_logs(tmp_path):
    settings, seen = config(), []
    pipe = train_generator(*training_set(), settings, tmp_path, progress=lambda done, loss: seen.append((done, loss)))
    assert load_generator(tmp_path).digest == pipe.digest
    assert load_config(GeneratorConfig, tmp_path / "train_config.yaml") == settings
    assert (tmp_path / "samples" / "0000004.png").exists()
    assert list((tmp_path / "logs").rglob("events*"))
    assert seen[-1][0] == 4
    assert 0 < seen[-1][1] < 10


def test_the_loss_falls_on_one_pair(tmp_path):
    samples, images, pairs = training_set()
    losses = []
    settings = config(
        training={
            "iterations": 240,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "drop": 0.0,
            "flip": 0.0,
            "sample_every": 500,
        }
    )
    train_generator(samples, images, pairs[:1], settings, tmp_path, progress=lambda done, loss: losses.append(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_a_killed_run_called_again_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    settings = config(training={"iterations": 8, "checkpoint_every": 2})
    train_generator(*training_set(), settings, tmp_path / "unbroken")
    code = KILLED.format(out=str(tmp_path / "killed"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": OWN_MODULES}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if line.strip() == "5":
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint.pt").exists()
    assert not (tmp_path / "killed" / "model_index.json").exists()
    train_generator(*training_set(), settings, tmp_path / "killed")
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "unbroken"))


def test_accumulated_parts_count_as_one_iteration(tmp_path):
    settings = config(training={"accumulation": 2, "iterations": 2})
    done = []
    train_generator(*training_set(), settings, tmp_path, progress=lambda count, loss: done.append(count))
    assert done == [2]


def test_time_is_up_and_the_next_call_goes_on(tmp_path):
    settings = config(training={"iterations": 6})
    train_generator(*training_set(), settings, tmp_path / "whole")
    train_generator(*training_set(), settings, tmp_path / "parts", minutes=0)
    saved = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert saved["iteration"] == 1
    train_generator(*training_set(), settings, tmp_path / "parts")
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_a_loss_that_is_no_number_stops_the_run_and_names_every_pair_of_the_batch(tmp_path):
    loop = {"iterations": 8, "accumulation": 2, "learning_rate": 1e30, "gradient_clip": 1e30}
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf).*no checkpoint yet: run it again with") as caught:
        train_generator(*training_set(), config(training=loop), tmp_path)
    assert str(caught.value).count(".jpg -> 000") == 2 * 4
    assert not (tmp_path / "model_index.json").exists()


def test_a_diverged_run_goes_on_from_its_last_good_checkpoint_at_a_lower_rate(tmp_path, monkeypatch):
    def with_bad_gradients(*arguments):
        denoiser = build_denoiser(*arguments)
        next(denoiser.parameters()).register_hook(lambda gradient: gradient * torch.nan)
        return denoiser

    given = config(training={"iterations": 4, "checkpoint_every": 1})
    train_generator(*training_set(), given, tmp_path, minutes=0)
    good = (tmp_path / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(training, "build_denoiser", with_bad_gradients)
        message = r"iteration 2: weights that are no numbers.*kept: run it again with a lower training.*batch was: 000"
        with pytest.raises(TrainingError, match=message):
            train_generator(*training_set(), given, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == good
    lower = config(training={"iterations": 4, "checkpoint_every": 1, "learning_rate": 1e-4})
    train_generator(*training_set(), lower, tmp_path)
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())
    assert load_config(GeneratorConfig, tmp_path / "train_config.yaml") == lower


def test_a_run_may_go_on_to_fewer_or_more_iterations(tmp_path):
    def with_iterations(count: int):
        return config(training={"iterations": count, "schedule": "cosine", "checkpoint_every": 1})

    done = []
    train_generator(*training_set(), with_iterations(9), tmp_path, minutes=0)  # one iteration
    train_generator(*training_set(), with_iterations(5), tmp_path, minutes=0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == 2
    train_generator(*training_set(), with_iterations(2), tmp_path, progress=lambda *at: done.append(at))
    assert not done and is_trained(tmp_path)
    assert load_config(GeneratorConfig, tmp_path / "train_config.yaml") == with_iterations(2)


def test_another_rate_is_for_runs_to_go_on_with_not_for_trained_ones(tmp_path):
    train_generator(*training_set(), config(), tmp_path)
    with pytest.raises(OutputError, match="other settings"):
        train_generator(*training_set(), config(training={"learning_rate": 1e-4}), tmp_path)


def test_a_trained_generator_is_loaded_and_nothing_is_trained_or_written(tmp_path):
    pipe = train_generator(*training_set(), config(), tmp_path)
    there, done = contents(tmp_path), []
    again = train_generator(*training_set(), config(), tmp_path, progress=lambda *at: done.append(at))
    assert again.digest == pipe.digest
    assert not done and contents(tmp_path) == there


def test_a_generator_that_is_not_trained_to_its_end_is_loaded_with_a_warning(tmp_path):
    train_generator(*training_set(), config(), tmp_path, minutes=0)
    with pytest.warns(UserWarning, match=r"not trained to its end \(checkpoint\.pt is there\). Run") as caught:
        load_generator(tmp_path)
    assert str(tmp_path) in str(caught[0].message)
    train_generator(*training_set(), config(), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_generator(tmp_path)


def test_a_seed_gives_the_same_generator_and_another_gives_another(tmp_path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        train_generator(*training_set(), config(training={"seed": seed, "iterations": 2}), tmp_path / name)
    assert same(weights(tmp_path / "first"), weights(tmp_path / "again"))
    assert not same(weights(tmp_path / "first"), weights(tmp_path / "other"))


def test_the_rate_after_a_resume_is_that_of_an_unbroken_schedule():
    rates = []
    for begins in ([0], [0, 3]):
        accelerator = Accelerator(cpu=True)
        loop = {"schedule": "cosine", "warmup": 2, "iterations": 8}
        learner = Learner(untrained_pipe(), config(training=loop), accelerator)
        for begin, end in zip(begins, [*begins[1:], 6]):
            learner.start(begin)
            for _ in range(begin, end):
                learner.rate.step()
        rates.append(learner.learning_rate)
    assert rates[0] == rates[1]


def test_folders_that_are_not_this_run(tmp_path):
    settings = config()
    train_generator(*training_set(), settings, tmp_path / "run")
    with pytest.raises(OutputError, match=r"other settings \(train_config.yaml\)"):
        train_generator(*training_set(), config(training={"seed": 1}), tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty, and not a training run"):
        train_generator(*training_set(), settings, tmp_path / "other")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("minutes", [0, None], ids=["stopped", "trained"])
def test_a_run_does_not_go_on_with_other_data(tmp_path, minutes):
    train_generator(*training_set(), config(), tmp_path, minutes=minutes)
    there = contents(tmp_path)
    samples, images, pairs = training_set()
    for other in (training_set(seed=5), (samples, images, pairs[:-1])):
        with pytest.raises(OutputError, match=r"holds a run on other images, poses or pairs\. Give the data"):
            train_generator(*other, config(), tmp_path)
    assert contents(tmp_path) == there


@pytest.mark.parametrize("text", [None, "", "{}"], ids=["none", "empty", "without its field"])
def test_a_trained_generator_that_does_not_say_what_it_learnt_from_is_refused(tmp_path, text):
    train_generator(*training_set(), config(), tmp_path)
    (tmp_path / "train_data.json").unlink()
    if text is not None:
        (tmp_path / "train_data.json").write_text(text)
    with pytest.raises(OutputError, match=r"no train_data\.json says on which data\. Name another folder"):
        train_generator(*training_set(), config(), tmp_path)


def test_a_start_that_fails_leaves_the_folder_free(tmp_path):
    samples, images, pairs = training_set()
    with pytest.raises(DataError, match="training pairs: none"):
        train_generator(samples, images, [], config(), tmp_path)
    wrong = config(sampling={"guidance": "joint"})
    with pytest.raises(ConfigError, match="guidance_scale: `joint` guidance takes"):
        train_generator(samples, images, pairs, wrong, tmp_path)
    train_generator(samples, images, pairs, config(), tmp_path)


def test_runs_of_different_precision_in_one_process(tmp_path):
    for precision in ("no", "bf16"):
        settings = config(training={"iterations": 1, "precision": precision})
        train_generator(*training_set(), settings, tmp_path / precision)


@pytest.mark.slow
def test_two_processes_train_one_generator(tmp_path):
    code = (
        "from generator_cases import config, training_set\n"
        "from reid_aug.generators.training import train_generator\n"
        f"train_generator(*training_set(), config(), {str(tmp_path / 'run')!r}, minutes=10)\n"
    )
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": OWN_MODULES}
    done = subprocess.run([*command, str(tmp_path / "script.py")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert weights(tmp_path / "run")


@pytest.mark.parametrize("content", [b"not a checkpoint", b""])
def test_a_damaged_checkpoint(content, tmp_path):
    settings = config(training={"iterations": 6})
    train_generator(*training_set(), settings, tmp_path, minutes=0)
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: cannot be resumed"):
        train_generator(*training_set(), settings, tmp_path)
