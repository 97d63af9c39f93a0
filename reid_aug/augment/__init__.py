"""Augmenting a subset: plan, generation into a store, identity filter, mixing schedule."""
