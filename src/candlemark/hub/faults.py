"""What can go wrong between here and a Hub: tried again, or one HubError that says what next.

    files = persist(lambda: api.list_repo_tree(...), Errand(doing="read", repo="dataset a/b", ...))

Tried again: an answer 408, 429, 500, 502, 503 or 504, after `Retry-After` or the `RateLimit`
header where the Hub gives one; a connection that ends early or never begins; an answer that is
no JSON where JSON was due. Everything else, and what remains after the last attempt, becomes
one line: what was being done, what the Hub said, and the next command.

A token never leaves this module in a message: whatever text a Hub sends back is searched for
it, and the library's own error, which holds the request with its headers, is not chained.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from candlemark.errors import HubError
from candlemark.progress import note, warning

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
ATTEMPTS = 5
LONGEST_WAIT_S = 300.0
"""A Hub that asks for a longer wait ends the attempt with a line that says how long."""

SILENCE_S = 120.0
"""A Hub that says nothing for so long has hung."""

_LONGEST_PAUSE_S = 8.0
_NOT_THERE = frozenset({"ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError"})
_WHAT_CHUNKS_SAY = re.compile(r"not supported by Xet Storage|No files have been modified")

ResultT = TypeVar("ResultT")


class Moved(Exception):  # noqa: N818  # never leaves this package
    """The branch is no longer where it was when the changes were worked out."""


class Stopped(Exception):  # noqa: N818  # never leaves this package
    """Whoever wanted it has gone: what has arrived stays, and nothing more is brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What is being done, in the words of its error message.

    doing: "push to the dataset user/name"
    repo: "dataset user/name", or "" where no repo is asked for
    token: kept out of every message; None: none is sent
    stop: set where nobody waits for it any more; None: somebody always does
    writes: whether it may need a token that may write
    """

    doing: str
    endpoint: str
    repo: str = ""
    token: str | None = None
    stop: threading.Event | None = None
    writes: bool = True

    def __repr__(self) -> str:
        return f"Errand({self.doing!r})"


def persist(
    action: Callable[[], ResultT],
    errand: Errand,
    *,
    attempts: int = ATTEMPTS,
    retry_lost: bool = True,
) -> ResultT:
    """Do it, and again where that may help.

    attempts: how often in all; 1 where the library retries each request itself
    retry_lost: False where doing it twice would be wrong; then only an answer that says
    that nothing was done is tried again

    Raises HubError. Moved, passed on. Stopped: while it waited.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    for attempt in range(1, attempts + 1):
        try:
            return action()
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            cause = _cause(error)
            wait_s = _wait_s(cause, attempt)
            if not _may_help(cause, retry_lost=retry_lost) or attempt == attempts:
                raise HubError(explain(cause, errand, attempts=attempt)) from None
            if wait_s > LONGEST_WAIT_S:
                raise HubError(_too_long(errand, wait_s)) from None
            reason = _reason(cause, errand)
            text = f"{errand.doing}: {reason}; trying again in {wait_s:g} s"
            note(hide(text, errand.token), task="hub")
            pause(wait_s, errand.stop)
        except (LookupError, TypeError, AttributeError) as error:
            if not _is_of_the_library(error):
                raise
            raise HubError(_not_understood(error, errand)) from None
    raise AssertionError("the last attempt returns or raises")


def pause(seconds: float, stop: threading.Event | None = None) -> None:
    """Wait; where it may be stopped, in steps of a second."""
    step_s = seconds if stop is None else 1.0
    while seconds > 0:
        if stop is not None and stop.is_set():
            raise Stopped
        time.sleep(min(step_s, seconds))
        seconds -= step_s


def explain(error: BaseException, errand: Errand, *, attempts: int = 1) -> str:
    """One line: what was being done, why it failed, and the next command."""
    tried = f", asked {attempts} times" if attempts > 1 else ""
    return hide(
        f"cannot {errand.doing}: {_reason(error, errand)}{tried}; {_next(error, errand)}",
        errand.token,
    )


def hide(text: str, token: str | None) -> str:
    """The text on one line without the token, signed addresses and what would steer a terminal."""
    if token:
        text = text.replace(token, "***")
    text = re.sub(r"\bhf_[A-Za-z0-9]{16,}", "***", text)
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1", text)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


@contextmanager
def quietly(token: str | None) -> Iterator[None]:
    """The library's bars off, a limit to its patience, its logs and warnings told as progress.

    This is the process's state, so threads that are inside at once share one change of it.
    """
    with _QUIET.lock:
        _QUIET.depth += 1
        if _QUIET.depth == 1:
            _QUIET.begin(token)
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.depth -= 1
            if _QUIET.depth == 0:
                _QUIET.end()


class _Quiet:
    """What the library is kept from, and how it was before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self._undo = ExitStack()

    def begin(self, token: str | None) -> None:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils.tqdm import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        session = get_session()
        hooks = session.event_hooks
        self._undo.callback(setattr, session, "event_hooks", hooks)
        session.event_hooks = {**hooks, "request": [*hooks["request"], _limit_patience]}
        logger = logging.getLogger("huggingface_hub")
        self._undo.callback(logger.handlers.__setitem__, slice(None), logger.handlers[:])
        logger.handlers[:] = [_Notes(token)]
        if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled():
            self._undo.callback(enable_progress_bars)
            disable_progress_bars()
        caught = self._undo.enter_context(warnings.catch_warnings(record=True))
        self._undo.callback(_tell_warnings, caught, token)
        warnings.simplefilter("always")

    def end(self) -> None:
        self._undo.close()


_QUIET = _Quiet()


def _limit_patience(request: Any) -> None:
    """The library waits for most answers for ever."""
    limits = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        name: limits.get(name) or SILENCE_S for name in ("connect", "read", "write", "pool")
    }


def _tell_warnings(caught: list[warnings.WarningMessage] | None, token: str | None) -> None:
    for item in caught or []:
        # Between the library and its own dependencies; nobody here can do anything about it.
        if not issubclass(item.category, DeprecationWarning):
            warning(hide(str(item.message), token), task="hub")


class _Notes(logging.Handler):
    """Reports what the library logs."""

    def __init__(self, token: str | None) -> None:
        super().__init__(level=logging.WARNING)
        self._token = token

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not _WHAT_CHUNKS_SAY.search(text):
            note(hide(text, self._token), task="hub")


def status_of(error: BaseException) -> int | None:
    """The status of an answer that the library turned into an error."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _cause(error: BaseException) -> BaseException:
    """What lies under the library's own wrapping: an answer, else what broke the connection."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    if isinstance(error, ValueError) and not isinstance(error, HTTPError):
        return error  # says more than the answer it was made from
    chain: list[BaseException] = [error]
    while (under := chain[-1].__cause__) is not None:
        chain.append(under)
    answers = (item for item in chain if status_of(item) is not None)
    breaks = (item for item in chain if isinstance(item, HTTPError | ConnectionError))
    return next(answers, None) or next(breaks, None) or error


def _may_help(error: BaseException, *, retry_lost: bool) -> bool:
    """Whether another attempt may end differently."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    status = status_of(error)
    if status is not None:
        return status in RETRIED
    if not retry_lost:
        return type(error).__name__ in {"ConnectError", "ConnectTimeout"}
    return isinstance(error, HTTPError | json.JSONDecodeError)


def _wait_s(error: BaseException, attempt: int) -> float:
    headers: Any = getattr(getattr(error, "response", None), "headers", {})
    asked = str(headers.get("retry-after", "")).strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", asked, re.ASCII):
        waited = float(asked)
    elif asked:
        waited = _until(asked)
    else:
        waited = 0.0
    if waited > 0:  # "at once" is how it was asked before
        return waited
    spent_s = spent_for_s(headers)
    if spent_s is not None and status_of(error) == 429:
        return spent_s
    return float(min(2 ** (attempt - 1), _LONGEST_PAUSE_S))


def spent_for_s(headers: Mapping[str, str]) -> float | None:
    """Seconds for which nothing is left of the limit (`RateLimit: ...;r=0;t=5`); None: some is."""
    limit = re.search(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", str(headers.get("ratelimit", "")))
    return float(limit[1]) + 1 if limit else None


def _until(date: str) -> float:
    """Seconds until an HTTP date; a pause where it is none."""
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return _LONGEST_PAUSE_S


def _is_of_the_library(error: BaseException) -> bool:
    """Whether it was raised where huggingface_hub reads an answer, and so is no defect here."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__")).startswith("huggingface_hub.")


def _not_understood(error: BaseException, errand: Errand) -> str:
    return hide(
        f"cannot {errand.doing}: {errand.endpoint} answered with what huggingface_hub does not "
        f"understand ({type(error).__name__}: {error}); look at HF_ENDPOINT, which may be no Hub",
        errand.token,
    )


def _too_long(errand: Errand, wait_s: float) -> str:
    return (
        f"cannot {errand.doing}: the Hub asks to wait {wait_s / 60:.0f} minutes (429 or 503); "
        "run the same command again then, what has arrived is kept"
    )


def _said(error: BaseException) -> str:
    """The Hub's own words, if it sent any, short."""
    text = getattr(error, "server_message", None) or ""
    return f": {text.splitlines()[0][:200]}" if text else ""


def _reason(error: BaseException, errand: Errand) -> str:
    status, name = status_of(error), type(error).__name__
    own = str(error) or name
    if status is not None:
        reason = f"{errand.endpoint} answered {status}{_said(error)}"
    elif name == "OfflineModeIsEnabled":
        reason = "HF_HUB_OFFLINE is set, so nothing may be asked of the Hub"
    elif name in _NOT_THERE:
        reason = f"there is no Hub at {errand.endpoint} ({own})"
    elif isinstance(error, json.JSONDecodeError):
        reason = f"{errand.endpoint} answered with something that no Hub says"
    elif "Timeout" in name:
        reason = f"{errand.endpoint} did not answer in time"
    elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        reason = "the disk is full"
    elif isinstance(error, OSError) and error.strerror and error.filename:
        reason = f"{error.filename}: {error.strerror}"
    elif _is_transport(error):
        reason = f"the connection to {errand.endpoint} ended early ({own})"
    else:
        reason = own
    return reason


def _is_transport(error: BaseException) -> bool:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    return isinstance(error, HTTPError) and status_of(error) is None


def _next(error: BaseException, errand: Errand) -> str:
    """The next thing to type."""
    status, name = status_of(error), type(error).__name__
    again = "run the same command again"
    if name == "GatedRepoError":
        step = f"ask for access at {errand.endpoint}/{errand.repo.rpartition(' ')[2]}"
    elif status in {401, 403}:
        step = _about_token(status, errand)
    elif name == "RevisionNotFoundError":
        step = "name a branch, tag or commit that is there with --revision"
    elif status == 404 and errand.repo:
        owner = errand.repo.rpartition(" ")[2].rpartition("/")[0]
        step = f"look for the name of the {errand.repo} at {errand.endpoint}/{owner}"
    elif name in _NOT_THERE:
        step = f"try: curl -I {errand.endpoint}, and look at HF_ENDPOINT"
    elif isinstance(error, json.JSONDecodeError):
        step = "look at HF_ENDPOINT, and whether a proxy stands between"
    elif name == "OfflineModeIsEnabled":
        step = "type: unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE"
    elif status == 400 or isinstance(error, ValueError):
        step = f"correct what it names and {again}"
    else:
        step = f"{again}, what has arrived is kept"
    return step


def _about_token(status: int | None, errand: Errand) -> str:
    tokens = f"{errand.endpoint}/settings/tokens"
    if status == 403 and (errand.token is None or not errand.writes):
        who = "nobody may do that without a token" if errand.token is None else "the token may not"
        return f"{who}, or a proxy stands between: look at HF_ENDPOINT, and for a token at {tokens}"
    if status == 403:
        return (
            f"the token may not do that: make one that may write at {tokens} and export "
            "HF_TOKEN=..., or propose the change with --create-pr"
        )
    if errand.token is None:
        hint = f" (or there is no {errand.repo})" if errand.repo else ""
        return f"it needs a token{hint}: make one at {tokens} and export HF_TOKEN=..."
    return f"the token is not valid: make a new one at {tokens} and export HF_TOKEN=..."
