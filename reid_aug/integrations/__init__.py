"""Other libraries' plug points. None of those libraries is imported before one of its functions is called."""

from reid_aug.integrations import torchreid

__all__ = ["torchreid"]
