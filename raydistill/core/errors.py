"""The errors raydistill raises on purpose. Each message says what is wrong, where, and what to do."""


class RaydistillError(Exception):
    """Base of every error with a message meant for the person at the terminal."""

    exit_code = 1


class ConfigError(RaydistillError):
    """The configuration is wrong: an unknown key, a wrong type, an impossible combination."""

    exit_code = 2


class InputError(RaydistillError):
    """The cohort, or the run folder it should go to, can't be used as it is."""

    exit_code = 2


class LineageError(RaydistillError):
    """An artifact isn't what its manifest says, or depends on something it must not."""


class NothingToDo(Exception):
    """Raised by a stage whose inputs leave it nothing to do, with the reason; what follows from it is skipped too."""


class TrainingError(RaydistillError):
    """Training failed or diverged: a loss that isn't finite, a worker group that could not start."""
