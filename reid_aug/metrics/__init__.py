"""Measures of generated images; tensors in, numbers out."""
