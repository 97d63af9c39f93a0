"""Mixing policies: which share of each re-ID batch is generated, and which losses a generated image enters.

| policy      | each identity's images in iteration i                                      | as in                     |
|-------------|----------------------------------------------------------------------------|---------------------------|
| none        | K real                                                                     | the standard arm          |
| concat      | K from real and generated together                                         | concatenate and shuffle   |
| fixed_ratio | K - s real, s generated                                                    | CamStyle (3 : 1)          |
| finetune    | K real for the first ``start`` of the iterations, then K from both         | PIDM, PCDMs, IMAGPose     |
| auxiliary   | K real, and s generated beside them (a larger batch than the others')      | DG-Net                    |

``weight``, ``smoothing`` and ``in_triplet`` of the configuration hold for the generated images of every policy.
To add a policy: write a function of (config, iterations, K), enter it in :data:`POLICIES`, and name it in
``ScheduleConfig.policy`` and ``docs/schedules.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from reid_aug.config import ScheduleConfig
from reid_aug.errors import ConfigError
from reid_aug.records import Mix, Schedule


def make_schedule(config: ScheduleConfig, iterations: int, images_per_identity: int) -> Schedule:
    """The schedule of ``config`` for a run of ``iterations`` with K = ``images_per_identity``.

    Raises:
        ConfigError: the policy leaves no real image in the batch, or does not go by a setting that is given.
    """
    policy = POLICIES[config.policy]
    given = config.model_dump(exclude={"policy"}, exclude_defaults=True)
    unused = ", ".join(f"`{name}`" for name in given if name not in policy.settings)
    if unused:
        raise ConfigError(
            f"schedule: {config.policy} does not go by {unused}. Leave it out, or name another policy; "
            "docs/schedules.md says which goes by what."
        )
    return policy.make(config, iterations, images_per_identity)


def _none(config: ScheduleConfig, iterations: int, images: int) -> Schedule:
    return _always(Mix(real=images))


def _concat(config: ScheduleConfig, iterations: int, images: int) -> Schedule:
    return _always(_mix(config, either=images))


def _fixed_ratio(config: ScheduleConfig, iterations: int, images: int) -> Schedule:
    if config.synthetic >= images:
        raise ConfigError(
            f"schedule: `synthetic` is {config.synthetic}, but a batch has only {images} images of each identity and "
            f"fixed_ratio needs a real one among them. Set `synthetic` below {images} or raise the training's `images`."
        )
    return _always(_mix(config, real=images - config.synthetic, synthetic=config.synthetic))


def _finetune(config: ScheduleConfig, iterations: int, images: int) -> Schedule:
    real, both = Mix(real=images), _mix(config, either=images)
    start = round(config.start * iterations)
    return lambda iteration: real if iteration < start else both


def _auxiliary(config: ScheduleConfig, iterations: int, images: int) -> Schedule:
    return _always(_mix(config, real=images, synthetic=config.synthetic))


class Policy(NamedTuple):
    """``make``: (config, iterations, K) to the schedule; ``settings``: the fields of the configuration it goes by."""

    make: Callable[[ScheduleConfig, int, int], Schedule]
    settings: tuple[str, ...]


_OF_GENERATED = ("weight", "smoothing", "in_triplet")
POLICIES: dict[str, Policy] = {
    "none": Policy(_none, ()),
    "concat": Policy(_concat, _OF_GENERATED),
    "fixed_ratio": Policy(_fixed_ratio, ("synthetic", *_OF_GENERATED)),
    "finetune": Policy(_finetune, ("start", *_OF_GENERATED)),
    "auxiliary": Policy(_auxiliary, ("synthetic", *_OF_GENERATED)),
}


def _always(mix: Mix) -> Schedule:
    return lambda iteration: mix


def _mix(config: ScheduleConfig, **counts: int) -> Mix:
    return Mix(**counts, weight=config.weight, smoothing=config.smoothing, in_triplet=config.in_triplet)
