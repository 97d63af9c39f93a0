"""Classifier-free guidance with two conditions: which branches a rule evaluates and how it combines them.

Every function takes the denoiser's predictions (any shape, all the same) and the scales. Notation: ``eps(p, s)`` is
the prediction given pose and source, ``null`` a dropped condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from reid_aug.errors import ConfigError


def disentangled(null: Tensor, pose: Tensor, source: Tensor, *, w_pose: float, w_source: float) -> Tensor:
    """Eq. 6 of PIDM: ``eps_u + w_p (eps(p, null) - eps_u) + w_s (eps(null, s) - eps_u)``."""
    return null + w_pose * (pose - null) + w_source * (source - null)


def cumulative(null: Tensor, pose: Tensor, both: Tensor, *, w_pose: float, w_source: float) -> Tensor:
    """PoCoLD and CFLD: ``eps_u + w_p (eps(p, null) - eps_u) + w_s (eps(p, s) - eps(p, null))``."""
    return null + w_pose * (pose - null) + w_source * (both - pose)


def joint(null: Tensor, both: Tensor, *, w_joint: float) -> Tensor:
    """One scale for all conditions (Ho and Salimans 2022, Eq. 6): ``eps_u + w (eps(p, s) - eps_u)``."""
    return null + w_joint * (both - null)


def source(pose: Tensor, both: Tensor, *, w_source: float) -> Tensor:
    """IMAGPose and PIDM's released code (not its paper): ``eps(p, null) + w_s (eps(p, s) - eps(p, null))``.

    Eq. 5 of IMAGPose, whose first branch is printed without the pose; by its loss (Eq. 4) and its code it has it.
    """
    return pose + w_source * (both - pose)


@dataclass(frozen=True)
class Guidance:
    """A rule with the branches it needs, each as (pose kept, source kept), in the order of its arguments."""

    combine: Callable[..., Tensor]
    branches: tuple[tuple[bool, bool], ...]
    scales: tuple[str, ...]

    def arguments(self, scale: Mapping[str, float]) -> dict[str, float]:
        """The rule's keyword arguments from ``{"pose": 2.0, ...}``.

        Raises:
            ConfigError: a scale the rule needs is missing, or one it does not know is given.
        """
        if set(scale) != set(self.scales):
            wanted = ", ".join(f"{name}: ..." for name in self.scales)
            raise ConfigError(
                f"guidance_scale: `{self.combine.__name__}` guidance takes {{{wanted}}}, got {dict(scale)}. "
                "Give exactly these scales."
            )
        return {f"w_{name}": float(scale[name]) for name in self.scales}


GUIDANCE: dict[str, Guidance] = {
    "disentangled": Guidance(disentangled, ((False, False), (True, False), (False, True)), ("pose", "source")),
    "cumulative": Guidance(cumulative, ((False, False), (True, False), (True, True)), ("pose", "source")),
    "joint": Guidance(joint, ((False, False), (True, True)), ("joint",)),
    "source": Guidance(source, ((True, False), (True, True)), ("source",)),
}
