"""Small conditions and configurations for the tests of generators."""

import numpy as np
import torch
from untrained import untrained_generator

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.generators.condition import Condition
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.pose.batch import PoseBatch
from reid_aug.records import Pose, Sample, Samples

SIZE = (32, 16)
STANDING = np.array(
    [[8, 4], [8, 8], [5, 8], [4, 12], [4, 15], [11, 8], [12, 12], [12, 15], [6, 16], [6, 22], [6, 28], [10, 16],
     [10, 22], [10, 28], [7, 3], [9, 3], [6, 4], [10, 4]], np.float32
)  # fmt: skip


def pose(rng: np.random.Generator) -> Pose:
    """A standing person with jittered joints."""
    xy = np.clip(STANDING + rng.normal(0, 1, STANDING.shape), 0, [SIZE[1] - 1, SIZE[0] - 1]).astype(np.float32)
    return Pose(xy, np.ones(18, bool), SIZE)


def condition(batch: int = 2, sources: int = 1, seed: int = 0) -> Condition:
    """Random sources and poses."""
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.uniform(-1, 1, (batch, sources, 3, *SIZE))).float()
    return Condition(
        pixels,
        PoseBatch.stack([pose(rng) for _ in range(batch * sources)]),
        PoseBatch.stack([pose(rng) for _ in range(batch)]),
    )


def config(**sections) -> GeneratorConfig:
    """A generator small enough for a test."""
    values = {
        "model": {
            "image_size": SIZE, "codec": "patch_pca", "channels": (16, 32), "texture_levels": (0, 1),
            "layers_per_level": 1, "dropout": 0.0, "learned_variance": False, "warp_prior": True, "precondition": True,
        },
        "noise": {"prediction": "v_prediction", "zero_terminal_snr": True},
        "training": {"iterations": 4, "batch_size": 4, "learning_rate": 1e-3, "ema_decay": 0.9,
                     "checkpoint_every": 2, "sample_every": 4},
        "sampling": {"steps": 2, "guidance": "cumulative"},
    }  # fmt: skip
    return build_config(GeneratorConfig, {key: {**values[key], **sections.get(key, {})} for key in values})


SYSTEMS = {
    "pidm": {"texture_levels": (0, 1), "dropout": 0.0, "learned_variance": False},
    "pocold": {"texture_levels": (0, 1), "heads": 2, "attention_rows": 8},
    "cfld": {
        "heads": 2, "prompt_channels": 16, "encoder": "swin_tiny_patch4_window7_224", "encoder_size": (64, 32),
        "encoder_arguments": {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2},
        "queries": 3, "decoder_blocks": 1, "decoder_heads": 2, "appearance_layers": 1,
    },
    # Patches of 2: of 4, on a grid that then is one wide, oneDNN's bfloat16 convolution is wrong (torch 2.14, AVX-512).
    "imagpose": {"heads": 2, "context_channels": 16, "patch": 2},
}  # fmt: skip


def system_pipe(name: str) -> PosePipeline:
    """An untrained generator of one of the four systems, sampled by cumulative guidance."""
    shared = {"image_size": SIZE, "codec": "patch_pca", "channels": (16, 32), "layers_per_level": 1}
    model = {"system": name, **shared, "warp_prior": True, "precondition": True, "cameras": 2, **SYSTEMS[name]}
    return untrained_pipe(build_config(GeneratorConfig, {**config().model_dump(exclude={"model"}), "model": model}))


def untrained_pipe(settings: GeneratorConfig | None = None) -> PosePipeline:
    """An untrained generator of images of ``SIZE``."""
    return untrained_generator(config() if settings is None else settings, training_set()[1].pixels)


def inputs(count: int = 3, seed: int = 0) -> dict:
    """The arguments of a plain pose transfer."""
    rng = np.random.default_rng(seed)
    return {
        "source": torch.from_numpy(rng.integers(0, 256, (count, 3, *SIZE), np.uint8)),
        "source_pose": [pose(rng) for _ in range(count)],
        "target_pose": [pose(rng) for _ in range(count)],
        "seeds": list(range(100, 100 + count)),
        "output_type": "uint8",
    }


def difference(first: torch.Tensor, second: torch.Tensor) -> int:
    """Largest difference of two uint8 tensors, in grey levels."""
    return (first.int() - second.int()).abs().max().item()


class ArrayImages:
    """Images of a list, kept in memory."""

    def __init__(self, pixels: torch.Tensor):
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices) -> torch.Tensor:
        return self.pixels[torch.as_tensor(np.asarray(indices, dtype=np.int64))]


def training_set(identities: int = 3, each: int = 3, seed: int = 0):
    """Samples with poses, their pixels (one colour an identity), and all ordered pairs."""
    from pathlib import Path

    rng = np.random.default_rng(seed)
    samples, poses, pixels = [], {}, []
    for pid in range(1, identities + 1):
        colour = rng.integers(0, 256, (3, 1, 1))
        for index in range(each):
            camid = 1 + index % 2
            sample = Sample(Path(f"{pid:04d}_c{camid}s1_{index:06d}_00.jpg"), pid, camid)
            samples.append(sample)
            poses[sample.name] = pose(rng)
            noise = rng.integers(-20, 20, (3, *SIZE))
            pixels.append(np.clip(colour + noise, 0, 255).astype(np.uint8))
    pairs = [(a.name, b.name) for a in samples for b in samples if a.pid == b.pid and a is not b]
    return Samples(samples, poses), ArrayImages(torch.from_numpy(np.stack(pixels))), pairs


def shake(module: torch.nn.Module) -> None:
    """Make zero-initialised layers random, so that every input matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
