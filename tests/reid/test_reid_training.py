"""Training: that it learns, resumes exactly, mixes generated images in, and refuses what it must."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reid_cases import ArrayImages, four_real, people, tiny_config
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reid_aug.config import ReidConfig, ReidTrainingConfig, build_config, load_config
from reid_aug.errors import CheckpointError, ConfigError, DataError, OutputError, TrainingError
from reid_aug.records import Mix
from reid_aug.reid.features import extract_features
from reid_aug.reid.learner import Learner, TrainingBatch, learning_rate, make_accelerator
from reid_aug.reid.model import build_model, load_model
from reid_aug.reid.training import in_iterations, train_reid

PEOPLE = people()


def _train(config=None, schedule=four_real, out=None, **more):
    return train_reid(PEOPLE, ArrayImages(PEOPLE), schedule, config or tiny_config(), out, **more)


def _equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_to_tell_people_apart():
    config = tiny_config(iterations=80, warmup=0.0, learning_rate=3e-3)
    losses = []
    model = _train(config, progress=lambda done, loss: losses.append(loss))
    assert len(losses) == 80 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    seen = ArrayImages(PEOPLE, seed=1)  # the same colours under other noise
    features = extract_features(model, seen)
    similarity = features @ features.T - 2 * torch.eye(len(features))
    assert (PEOPLE.pids[similarity.argmax(dim=1)] == PEOPLE.pids).mean() > 0.9


def test_the_same_seed_gives_the_same_model_and_another_does_not():
    assert _equal(_train(), _train())
    assert not _equal(_train(), _train(tiny_config(seed=1)))


def test_the_global_random_state_is_left_alone():
    state = torch.random.get_rng_state()
    _train(tiny_config(iterations=2))
    assert torch.equal(torch.random.get_rng_state(), state)


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from reid_cases import ArrayImages, four_real, people, tiny_config
from reid_aug.reid.training import train_reid
import torch
torch.set_num_threads({threads})

def die_at_five(done, loss):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

train_reid(people(), ArrayImages(people()), four_real, tiny_config(), {out!r}, progress=die_at_five)
"""


def test_a_killed_and_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path):
    here, out = str(Path(__file__).parent), tmp_path / "run"
    code = _KILLED.format(here=here, out=str(out), threads=torch.get_num_threads())
    process = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert (out / "checkpoint.pt").is_file() and not (out / "model.safetensors").exists()
    done = []
    resumed = _train(out=out, progress=lambda iteration, loss: done.append(iteration))
    assert done == [5, 6]  # the checkpoint of iteration 4 was the last
    unbroken = _train()
    assert _equal(resumed, unbroken)
    assert _equal(load_model(out), unbroken)


@pytest.mark.parametrize("settings", [{"ema_decay": 0.9}, {"accumulation": 2}, {"precision": "bf16"}])
def test_every_kind_of_state_is_resumed(settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _train(tiny_config(**settings), out=tmp_path, progress=_interrupt_at_three)
    resumed = _train(tiny_config(**settings), out=tmp_path)
    assert _equal(resumed, _train(tiny_config(**settings)))
    assert not _equal(resumed, _train())


def test_a_finished_run_is_loaded_not_run_again(tmp_path):
    model = _train(out=tmp_path / "run")
    again = _train(out=tmp_path / "run", progress=lambda *_: pytest.fail("trained again"))
    assert _equal(model, again)
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["logs", "model.safetensors", "reid_config.yaml", "run.json"]
    assert load_config(ReidConfig, tmp_path / "run" / "reid_config.yaml") == tiny_config()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"config": tiny_config(learning_rate=1e-3)}, r"training\.learning_rate \(0\.00035 there, 0\.001 asked for\)"),
        ({"schedule": lambda iteration: Mix(real=3, either=1)}, r"different here: schedule \("),
        (
            {"synthetic": PEOPLE[:4], "synthetic_images": ArrayImages(PEOPLE[:4])},
            r"different here: generated images \(",
        ),
        ({"config": tiny_config(iterations=4)}, r"training\.iterations \(2 there, 4 asked for\)"),
    ],
)
def test_a_folder_of_another_run_is_refused(change, message, tmp_path):
    _train(tiny_config(iterations=2), out=tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    if "config" not in change:
        change = {**change, "config": tiny_config(iterations=2)}
    with pytest.raises(OutputError, match=message) as raised:
        _train(out=tmp_path, **change)
    assert str(tmp_path) in str(raised.value) and "Name another folder" in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_set_of_the_same_names_drawn_by_another_generator_is_refused(tmp_path):
    def train(seed: int):
        generated = {"synthetic": PEOPLE, "synthetic_images": ArrayImages(PEOPLE, seed=seed)}
        return _train(tiny_config(iterations=2), lambda iteration: Mix(real=3, synthetic=1), tmp_path, **generated)

    assert _equal(train(seed=5), train(seed=5))
    with pytest.raises(OutputError, match=r"different here: generated images \("):
        train(seed=6)


def test_a_run_goes_on_with_other_intervals(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _train(out=tmp_path, progress=_interrupt_at_three)
    resumed = _train(tiny_config(checkpoint_every=5), out=tmp_path)
    assert _equal(resumed, _train())


def test_a_run_goes_on_without_its_start_weights(tmp_path):
    weights = tmp_path / "start.safetensors"
    config = tiny_config()
    save_file(build_model(config.model, 4, seed=8).backbone.state_dict(), weights)
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": str(weights)})})
    unbroken = _train(config)
    assert not _equal(unbroken, _train())
    with pytest.raises(KeyboardInterrupt):
        _train(config, out=tmp_path / "run", progress=_interrupt_at_three)
    weights.unlink()
    assert _equal(_train(config, out=tmp_path / "run"), unbroken)
    assert _equal(_train(config, out=tmp_path / "run"), unbroken)


def test_start_weights_may_move_but_not_change(tmp_path):
    def starting(place: str, seed: int) -> ReidConfig:
        config, file = tiny_config(), tmp_path / place / "start.safetensors"
        file.parent.mkdir()
        save_file(build_model(config.model, 4, seed=seed).backbone.state_dict(), file)
        return config.model_copy(update={"model": config.model.model_copy(update={"weights": str(file)})})

    here, there, other = starting("here", 8), starting("there", 8), starting("other", 9)
    with pytest.raises(KeyboardInterrupt):
        _train(here, out=tmp_path / "run", progress=_interrupt_at_three)
    with pytest.raises(OutputError, match=r"another run; different here: model\.weights\.sha256"):
        _train(other, out=tmp_path / "run")
    assert _equal(_train(there, out=tmp_path / "run"), _train(here))


def test_what_was_logged_before_a_kill_stays(tmp_path):
    config = tiny_config(evaluate_every=2)
    with pytest.raises(KeyboardInterrupt):
        _train(config, out=tmp_path, evaluate=lambda model: {"held_out/mAP": 1.0}, progress=_interrupt_at_three)
    _train(config, out=tmp_path, evaluate=lambda model: {"held_out/mAP": 2.0})
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("held_out/mAP")] == [(2, 1.0), (4, 2.0), (6, 2.0)]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_other_training_images_or_foreign_files_are_refused(tmp_path):
    _train(tiny_config(iterations=2), out=tmp_path / "run")
    others = people(first_pid=4)
    with pytest.raises(OutputError, match=r"different here: training images \("):
        train_reid(others, ArrayImages(others), four_real, tiny_config(iterations=2), tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    with pytest.raises(OutputError, match="holds files that are no re-ID run"):
        _train(out=tmp_path / "thesis")


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _train(out=tmp_path, progress=_interrupt_at_three)
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: damaged.*Delete it"):
        _train(out=tmp_path)


def _interrupt_at_three(done, loss):
    if done == 3:
        raise KeyboardInterrupt


def test_generated_images_of_weight_zero_outside_the_triplet_change_no_gradient(monkeypatch):
    """With batch norm in evaluation mode, so that they do not reach the real images through its statistics."""
    steps = {}
    for name, mix in {"mixed": Mix(real=4, synthetic=2, weight=0.0, in_triplet=False), "real": Mix(real=4)}.items():
        config = tiny_config()
        learner = Learner(config, build_model(config.model, 6), make_accelerator(config.training))
        learner._model.eval()
        learner._model.training = True  # this module alone: it then returns the logits
        labels = torch.arange(3).repeat_interleave(mix.per_identity)
        synthetic = (torch.arange(mix.per_identity) >= 4).repeat(3)
        images = torch.randn(12, 3, 32, 16, generator=torch.Generator().manual_seed(0))
        batch = torch.zeros(len(labels), 3, 32, 16)
        batch[~synthetic] = images
        steps[name] = learner._losses(_batch(batch, labels, synthetic), mix)
    for part, loss in steps["real"].items():
        torch.testing.assert_close(steps["mixed"][part], loss)


def _centers_moved(scaler, images):
    """By one step of the centers. CPUs train in no float16, so the scaler is put where accelerate puts it on a GPU."""
    config = tiny_config()
    accelerator = make_accelerator(config.training)
    accelerator.scaler = scaler
    learner = Learner(config, build_model(config.model, 6), accelerator)
    before = learner._centers.centers.detach().clone()
    labels = torch.arange(3).repeat_interleave(4)
    learner.step(0, [_batch(images, labels, torch.zeros(12, dtype=torch.bool))], Mix(real=4))
    return learner._centers.centers.detach() - before


def test_centers_step_as_without_the_loss_scale_of_float16():
    images = torch.randn(12, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    moved, plain = _centers_moved(scaler, images), _centers_moved(None, images)
    assert plain.any()
    torch.testing.assert_close(moved, plain)
    assert scaler.get_scale() == 2048  # one step, one growth
    images[0] = torch.inf
    assert not _centers_moved(scaler, images).any()
    assert scaler.get_scale() == 1024


def _batch(images, labels, synthetic):
    return TrainingBatch(images, labels, synthetic, (~synthetic).nonzero()[:, 0])


def test_generated_images_take_part_and_may_have_another_size():
    store = people(images=3)
    generated = {"synthetic": store, "synthetic_images": ArrayImages(store, size=(24, 24), seed=5)}
    mixed = _train(schedule=lambda iteration: Mix(real=3, synthetic=1, smoothing=0.2, weight=0.5), **generated)
    assert not _equal(mixed, _train())


@pytest.mark.parametrize(
    "more, error, message",
    [
        ({"synthetic": PEOPLE}, DataError, "both its samples and its images"),
        ({"synthetic": PEOPLE, "synthetic_images": ArrayImages(PEOPLE[:3])}, DataError, "generated set: 30 samples"),
        ({"synthetic": people(first_pid=4), "synthetic_images": ArrayImages(PEOPLE)}, DataError, "no real image"),
        ({"config": tiny_config(identities=9)}, ConfigError, "between 2 and 6"),
        ({"config": tiny_config(learning_rate=1e30)}, TrainingError, r"no longer a number at iteration \d.*_rate"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(more, error, message, tmp_path):
    with pytest.raises(error, match=message):
        _train(**more)


def test_images_of_another_number_are_refused():
    with pytest.raises(DataError, match="training set: 30 samples but 4 images"):
        train_reid(PEOPLE, ArrayImages(PEOPLE[:4]), four_real, tiny_config())


def test_identities_with_few_images_are_said_once(caplog):
    few = PEOPLE.at([0, 1, *range(5, 30)])
    train_reid(few, ArrayImages(few), four_real, tiny_config(iterations=3))
    lines = [record.getMessage() for record in caplog.records if "fewer than" in record.getMessage()]
    expected = "1 of 6 identities have fewer than 4 images; theirs are repeated within a batch."
    assert lines == [f"training set: {expected}"]


def test_epochs_become_iterations_and_it_is_said(caplog):
    config = build_config(ReidConfig, {"training": {"epochs": 5, "identities": 2, "images": 4}})
    with caplog.at_level(logging.INFO):
        converted = in_iterations(config, PEOPLE.pids)
    assert converted.training.iterations == 5 * 3 and converted.training.epochs is None
    assert "training.epochs=5 of 3 batches, 1 an iteration: 15 iterations." in caplog.text
    accumulated = config.model_copy(update={"training": config.training.model_copy(update={"accumulation": 4})})
    assert in_iterations(accumulated, PEOPLE.pids).training.iterations == 4
    assert in_iterations(converted, PEOPLE.pids) is converted
    with pytest.raises(ConfigError, match="both give the length"):
        build_config(ReidConfig, {"training": {"epochs": 5, "iterations": 10}})


def test_learning_rate_is_the_references():
    settings = ReidTrainingConfig(iterations=1200, learning_rate=1.0)
    rates = {i: learning_rate(i, settings) for i in (0, 50, 100, 399, 400, 699, 700, 1199)}
    assert rates == pytest.approx({0: 0.01, 50: 0.505, 100: 1, 399: 1, 400: 0.1, 699: 0.1, 700: 0.01, 1199: 0.01})


def test_moving_average_is_returned():
    decay = 0.8
    snapshots = []
    config = tiny_config(iterations=4, evaluate_every=1)
    _train(config, evaluate=lambda model: snapshots.append({k: v.clone() for k, v in model.state_dict().items()}) or {})
    averaged = _train(tiny_config(iterations=4, ema_decay=decay)).state_dict()
    expected = snapshots[0]["classifier.weight"]
    for snapshot in snapshots[1:]:
        expected = decay * expected + (1 - decay) * snapshot["classifier.weight"]
    torch.testing.assert_close(averaged["classifier.weight"], expected)


def test_early_evaluation_changes_nothing_and_is_logged(tmp_path):
    called = []

    def evaluate(model):
        called.append(model.training)
        extract_features(model, ArrayImages(PEOPLE))
        return {"held_out/mAP": 12.5}

    evaluated = _train(tiny_config(evaluate_every=3), out=tmp_path, evaluate=evaluate)
    assert called == [False, False] and _equal(evaluated, _train())
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [event.step for event in events.Scalars("held_out/mAP")] == [3, 6]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert {"identity", "triplet", "center", "learning_rate"} <= set(events.Tags()["scalars"])


def test_early_evaluation_leaves_mixed_precision_as_it_is():
    def evaluate(model):
        extract_features(model, ArrayImages(PEOPLE))
        return {}

    evaluated = _train(tiny_config(precision="bf16", evaluate_every=2), evaluate=evaluate)
    assert _equal(evaluated, _train(tiny_config(precision="bf16"))) and not _equal(evaluated, _train())


_TWO = """
import sys
sys.path.insert(0, {here!r})
from reid_cases import ArrayImages, four_real, people, tiny_config
from reid_aug.reid.training import train_reid
import os, torch

model = train_reid(people(), ArrayImages(people()), four_real, tiny_config(), {out!r} + "/run")
torch.save(model.state_dict(), {out!r} + "/" + os.environ["RANK"] + ".pt")
"""


@pytest.mark.slow
def test_two_processes_train_one_model_on_batches_of_their_own(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(_TWO.format(here=str(Path(__file__).parent), out=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    process = subprocess.run(
        command, env={**os.environ, "ACCELERATE_USE_CPU": "true"}, capture_output=True, timeout=300
    )
    assert process.returncode == 0, process.stderr.decode()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    saved = load_model(tmp_path / "run").state_dict()
    learned = [name for name in saved if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) and torch.equal(first[name], saved[name]) for name in learned)
    alone = _train().state_dict()
    assert not torch.equal(saved["classifier.weight"], alone["classifier.weight"])  # the other batches took part
