"""The package's exceptions.

Every message names the file, the field or line in it, and the remedy. The command line prints the message alone and
exits with status 2; a program catches :class:`ReidAugError` for all of them.
"""


class ReidAugError(Exception):
    """Something the user can put right: the message says where it is and what to do."""


class DataError(ReidAugError):
    """A data set, key-point file or image is not what its format says."""


class ConfigError(ReidAugError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class CheckpointError(ReidAugError):
    """A checkpoint or weight file is missing, damaged or of another architecture."""


class OutputError(ReidAugError):
    """An output folder holds another run, or cannot be written."""


class MissingDependencyError(ReidAugError):
    """An optional package is not installed; the message has the command that installs it."""


class TrainingError(ReidAugError):
    """A training run cannot go on, for instance because its loss is not a number any more."""
