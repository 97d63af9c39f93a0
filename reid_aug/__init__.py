"""reid-aug: pose-guided diffusion augmentation for person re-identification."""

__version__ = "0.1.0"
