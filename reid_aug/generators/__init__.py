"""Pose-guided diffusion generators, their training and their sampling pipeline."""
