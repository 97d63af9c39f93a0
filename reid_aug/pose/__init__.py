"""Poses: skeleton, rendering, part-wise warp and the bank of target poses."""
