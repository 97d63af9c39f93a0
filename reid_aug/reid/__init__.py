"""The BoT re-ID trainer and the Market-1501 evaluation protocol."""
