"""Configuration: frozen pydantic models that reject unknown keys, read from YAML with dotted overrides.

    config = load_config(ReidConfig, "configs/reid/market_osnet.yaml", overrides=["training.iterations=800"])

Defaults are the published recipes'; the YAML files in ``configs/`` state only what differs.
"""

from reid_aug.config.augment import AugmentConfig, FilterConfig, ScheduleConfig
from reid_aug.config.base import Config, ImageSize, Precision
from reid_aug.config.files import build_config, load_config, save_config
from reid_aug.config.generator_models import (
    CfldConfig,
    GeneratorModel,
    GeneratorModelConfig,
    ImagposeConfig,
    PidmConfig,
    PocoldConfig,
)
from reid_aug.config.generators import (
    AutoencoderConfig,
    AutoencoderTrainingConfig,
    GeneratorConfig,
    GeneratorTrainingConfig,
    NoiseConfig,
    SamplingConfig,
)
from reid_aug.config.reid import (
    ReidAugmentationConfig,
    ReidConfig,
    ReidLossConfig,
    ReidModelConfig,
    ReidTrainingConfig,
)
from reid_aug.config.study import ArmConfig, GeneratorSource, StudyConfig

__all__ = [
    "ArmConfig",
    "AugmentConfig",
    "AutoencoderConfig",
    "AutoencoderTrainingConfig",
    "CfldConfig",
    "Config",
    "FilterConfig",
    "GeneratorConfig",
    "GeneratorModel",
    "GeneratorModelConfig",
    "GeneratorSource",
    "GeneratorTrainingConfig",
    "ImageSize",
    "ImagposeConfig",
    "NoiseConfig",
    "PidmConfig",
    "PocoldConfig",
    "Precision",
    "ReidAugmentationConfig",
    "ReidConfig",
    "ReidLossConfig",
    "ReidModelConfig",
    "ReidTrainingConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "StudyConfig",
    "build_config",
    "load_config",
    "save_config",
]
