"""One file of a model: from a folder, the Hub cache, or the Hub, in that order.

    path = find_file("microsoft/resnet-50", "config.json")

Files are brought by transformers' own downloader. What is in the cache is used as it is, with
no request; a Hub that does not answer is found out in seconds, not after a minute of retries.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from candlemark.errors import ModelError

CONFIG_NAME = "config.json"
PROBE_TIMEOUT_S = 5.0
REMEMBERED_S = 60.0
"""A model asks for a dozen files: who did not answer the first time is not asked for each."""

_silent: dict[tuple[str, int], tuple[float, OSError]] = {}
"""When a host and port were last found not to answer, and how."""


def find_file(model_id: str, name: str) -> Path | None:
    """Path of one file of a folder or Hub id, downloaded if need be; None if there is none.

    Raises ModelError: the file is not in the cache and the Hub cannot be reached, or the Hub
    does not know the id.
    """
    path = cached_file(model_id, name)
    if path is not None or Path(model_id).is_dir():
        return path
    _require_hub(model_id, name)
    from transformers.utils import cached_file as download

    try:
        found = download(model_id, name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        advice = "check the id" if name == CONFIG_NAME else "check the id, or use --weights random"
        raise ModelError(
            f"cannot get {name} of {model_id}: {_first_line(error)}; {advice}"
        ) from error
    return Path(found) if found else None


def cached_file(model_id: str, name: str) -> Path | None:
    """The file in the folder or in the Hub cache, with no request; None if it is not there.

    Raises ModelError: there is no such folder, and the Hub could not have such an id.
    """
    folder = Path(model_id)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils import cached_file as look_up

    try:
        found = look_up(
            model_id,
            name,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError as error:
        raise ModelError(
            f"'{model_id}' is no model folder, and no id that the Hub could have: "
            f"{_first_line(error)}"
        ) from error
    return Path(found) if found else None


def _first_line(error: OSError) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _probe(host: str, port: int) -> None:
    """Raise OSError where nobody answers, or nobody did within the last minute."""
    at, before = _silent.get((host, port), (0.0, None))
    if before is not None and time.monotonic() - at < REMEMBERED_S:
        raise before.with_traceback(None)
    try:
        socket.create_connection((host, port), PROBE_TIMEOUT_S).close()
    except OSError as error:
        _silent[host, port] = (time.monotonic(), error)
        raise


def _require_hub(model_id: str, name: str) -> None:
    """Raise ModelError at once where the Hub may not or cannot be asked."""
    advice = "use --weights random, or give a local folder with --weights PATH"
    if name == CONFIG_NAME:
        # Asked only of ids outside the catalog, which cannot be built without it.
        advice = "check the id, or name a model folder instead"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ModelError(
            f"{name} of {model_id} is not in the Hub cache and HF_HUB_OFFLINE is set; {advice}"
        )
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    # Behind a proxy only the proxy needs to answer; the client speaks to nothing else.
    target = urlsplit(getproxies().get(endpoint.scheme, endpoint.geturl()))
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        _probe(target.hostname or "", port)
    except OSError as error:
        raise ModelError(
            f"{name} of {model_id} is not in the Hub cache and {target.hostname}:{port} cannot "
            f"be reached ({error}); {advice}"
        ) from error
