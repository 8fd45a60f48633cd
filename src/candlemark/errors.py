"""Every error that candlemark raises on purpose.

    CandlemarkError
    ├── ConfigError            a config, flag or argument is wrong
    ├── MissingExtraError      an optional part is not installed
    ├── CandleError            candles break a rule (high below low, NaN, unordered, ...)
    ├── FetchError             candles could not be brought here
    │   ├── NotFoundError      the source has no such symbol, interval or month
    │   ├── ChecksumError      bytes differ from the published SHA-256
    │   └── RateLimitError     the server asked us to stop, with the time it ends
    ├── ChartError             a window cannot be drawn as asked
    ├── DatasetError           a dataset is damaged, unfinished or impossible to build
    ├── ScanError              a scan or mask cannot be read, paired or compared
    │   └── MaskError          a mask can be read, and holds something else than labels
    ├── ModelError             a model, its weights or its head cannot be had
    ├── ResultsError           the results store is locked, damaged or from another version
    └── HubError               the Hub refused, or could not be reached

A message says what was wrong, the value seen, what is allowed, and the next command to
type. The command line prints it as one line and exits with status 2; `--debug` shows the
traceback. Anything else that escapes is a defect of candlemark.
"""

from __future__ import annotations


class CandlemarkError(Exception):
    """Root of every error raised on purpose."""


class ConfigError(CandlemarkError):
    """A config, flag or argument is wrong."""


class MissingExtraError(CandlemarkError):
    """An optional part is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: "
            f"python -m pip install 'candlemark[{extra}]'"
        )


class CandleError(CandlemarkError):
    """Candles break a rule."""


class FetchError(CandlemarkError):
    """Candles could not be brought here."""


class NotFoundError(FetchError):
    """The source has no such symbol, interval or month."""


class ChecksumError(FetchError):
    """Bytes differ from the published SHA-256."""


class RateLimitError(FetchError):
    """The server asked us to stop; the message names the time it ends."""


class ChartError(CandlemarkError):
    """A window cannot be drawn as asked."""


class DatasetError(CandlemarkError):
    """A dataset is damaged, unfinished or impossible to build."""


class ScanError(CandlemarkError):
    """A scan or mask cannot be read, paired or compared."""


class MaskError(ScanError):
    """A mask can be read, and holds something else than labels."""


class ModelError(CandlemarkError):
    """A model, its weights or its head cannot be had."""


class ResultsError(CandlemarkError):
    """The results store is locked, damaged or from another version."""


class HubError(CandlemarkError):
    """The Hub refused, or could not be reached."""
