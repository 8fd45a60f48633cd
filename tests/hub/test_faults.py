"""Every fault of a Hub ends in an attempt that succeeds, or in one line that says what next."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from candlemark import progress
from candlemark.errors import HubError
from candlemark.hub import faults
from candlemark.hub.changes import LocalFile
from candlemark.hub.client import Hub
from candlemark.hub.faults import Errand, hide, persist
from candlemark.hub.pull import pull

LARGE = os.urandom(200_000)
FILES = {
    "README.md": LocalFile(content=b"---\ntags: [a]\n---\n# A\n"),
    "a.bin": LocalFile(content=LARGE),
    "b.bin": LocalFile(content=LARGE[::-1]),
    "c.txt": LocalFile(content=b"c"),
}
CONTENT = {path: file.read() for path, file in FILES.items()}

STEPS = {
    "look": "/api/models/tester/made$",
    "make": "/api/repos/create$",
    "list": "/tree/",
    "check the card": "/api/validate-yaml$",
    "ask how": "/preupload/",
    "ask where": "/objects/batch$",
    "send": "^/put/",
    "verify": "^/lfs-verify/",
    "commit": "/commit/",
}


class Seen:
    """A reporter that keeps all lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def handle(self, event: progress.Event) -> None:
        self.lines.append(event.text)


@pytest.fixture
def seen() -> Iterator[Seen]:
    reporter = Seen()
    before = progress.set_reporter(reporter)
    yield reporter
    progress.set_reporter(before)


def push(**options: Any) -> Any:
    hub = Hub()
    hub.ensure_repo("tester/made", "model")
    return hub.upload("tester/made", "model", FILES, message="push", **options)


def message(action: Callable[[], object], secret: str) -> str:
    """The one line in which an action ends; no part of it, nor of its traceback, has the token."""
    with pytest.raises(HubError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("cannot ")
    assert "; " in text
    told = "".join(traceback.format_exception(caught.value))
    assert secret not in text + told + repr(caught.value)
    return text


# -- tried again


@pytest.mark.parametrize("on", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_stumbles_is_asked_again(hub_double: Any, on: str, status: int) -> None:
    hub_double.fail(status, on=on, times=2)
    push()
    assert hub_double.files("tester/made") == CONTENT
    assert hub_double.commits("tester/made") == ["push"]
    # One connection waits longer the second time; two may each wait once.
    assert hub_double.waits in ([1, 2], [1, 1])


def test_a_bare_name_is_asked_for_again_as_well(hub_double: Any) -> None:
    hub_double.fail(429, on="/api/whoami", retry_after=7)
    assert Hub().full_id("made") == "tester/made"
    assert hub_double.waits == [7]
    hub_double.fail(401, on="/api/whoami")
    said = message(lambda: Hub().full_id("made"), hub_double.token)
    assert "the token is not valid: make a new one" in said


def test_a_token_that_has_run_out_is_said_where_a_repo_is_looked_at(hub_double: Any) -> None:
    hub_double.fail(401, on="/api/models/tester/made$")
    said = message(lambda: Hub().head("tester/made", "model"), hub_double.token)
    assert "the token is not valid: make a new one" in said


@pytest.mark.parametrize("status", [408, 502, 504])
def test_other_answers_that_pass_are_asked_again_as_well(hub_double: Any, status: int) -> None:
    hub_double.fail(status, on=STEPS["commit"], times=4)
    push()
    assert hub_double.waits == [1, 2, 4, 8]


@pytest.mark.parametrize("on", STEPS.values(), ids=STEPS.keys())
def test_the_hub_says_how_long_to_wait(hub_double: Any, seen: Seen, on: str) -> None:
    hub_double.fail(429, on=on, retry_after=17)
    push()
    assert hub_double.files("tester/made") == CONTENT
    # The library itself adds a second.
    assert hub_double.waits in ([17], [18])
    assert any("17" in line or "18" in line for line in seen.lines)


def test_a_date_and_a_rate_limit_are_waits_as_well(hub_double: Any) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    hub_double.fail(503, on="/api/models/tester/made$", retry_after=soon)
    hub_double.fail(429, on="/api/repos/create", headers={"RateLimit": '"api";r=0;t=55'})
    push()
    assert 90 < hub_double.waits[0] <= 100
    assert hub_double.waits[1] == 56


@pytest.mark.parametrize("on", STEPS.values(), ids=STEPS.keys())
def test_a_connection_that_ends_before_the_answer_is_made_again(hub_double: Any, on: str) -> None:
    for method in ("GET", "POST", "PUT"):
        hub_double.lose(method=method, on=on, times=1)
    push()
    assert hub_double.files("tester/made") == CONTENT
    # A commit that was made and whose answer was lost is recognised, not made twice.
    assert hub_double.commits("tester/made") == ["push"]


def test_a_cut_upload_goes_up_again(hub_double: Any) -> None:
    hub_double.cut(method="PUT", on="^/put/", after=50_000, times=2)
    push()
    assert hub_double.files("tester/made") == CONTENT
    assert hub_double.put_bytes == 2 * len(LARGE) + 2 * 50_000


def test_a_proxy_that_answers_in_html_is_no_answer(hub_double: Any) -> None:
    hub_double.fail(502, on="/api/validate-yaml$", message="<html>bad gateway</html>", times=2)
    push()
    assert hub_double.files("tester/made") == CONTENT


# -- given up


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "; the token is not valid: make a new one at"),
        (403, "/settings/tokens and export HF_TOKEN=..., or propose the change with --create-pr"),
        (404, "; "),
        (429, "; run the same command again, what has arrived is kept"),
        (500, "; run the same command again, what has arrived is kept"),
    ],
)
@pytest.mark.parametrize("step", ["make", "list", "ask where", "send", "commit"])
def test_a_hub_that_refuses_is_one_line_and_no_commit(
    hub_double: Any, status: int, says: str, step: str
) -> None:
    if step == "list":
        Hub().ensure_repo("tester/made", "model")
    hub_double.fail(status, on=STEPS[step], times=None)
    text = message(push, hub_double.token)
    assert f"answered {status}" in text
    assert says in text
    hub_double.faults.clear()
    if ("models", "tester/made") in hub_double.repos:
        assert hub_double.commits("tester/made") == []
    push()
    assert hub_double.files("tester/made") == CONTENT


def test_a_commit_that_conflicts_is_one_line_as_well(hub_double: Any) -> None:
    hub_double.fail(409, on="/commit/")
    with pytest.raises(HubError, match=r"someone else changed .* run the same command again"):
        push()
    push()
    assert hub_double.files("tester/made") == CONTENT


def test_a_wait_that_is_too_long_is_told_instead(hub_double: Any) -> None:
    hub_double.fail(429, on=STEPS["look"], retry_after=3600)
    text = message(push, hub_double.token)
    assert "the Hub asks to wait 60 minutes" in text
    assert hub_double.waits == []


def test_a_large_upload_that_was_cut_sends_only_what_is_missing(hub_double: Any) -> None:
    hub_double.cut(method="PUT", on="^/put/", after=1000, times=None, skip=1)
    text = message(push, hub_double.token)
    assert "ended early" in text
    assert "run the same command again, what has arrived is kept" in text
    assert hub_double.commits("tester/made") == []
    hub_double.faults.clear()
    before = hub_double.put_bytes
    push()
    assert hub_double.put_bytes - before == len(LARGE)
    assert hub_double.files("tester/made") == CONTENT


def test_a_push_that_someone_overtakes_undoes_nothing(hub_double: Any) -> None:
    Hub().ensure_repo("tester/made", "model")
    repo = hub_double.repo("tester/made")

    class Overtaken(Hub):
        def plan(self, *args: Any, **options: Any) -> Any:
            changes = super().plan(*args, **options)
            if len(repo.commits) == 1:
                repo.commit("refs/heads/main", "theirs", {"c.txt": repo.keep(b"theirs")})
            return changes

    with pytest.raises(HubError, match="someone else changed the model tester/made during this"):
        Overtaken().upload("tester/made", "model", FILES, message="ours")
    assert hub_double.commits("tester/made") == ["theirs"]
    push()
    assert hub_double.files("tester/made") == CONTENT


def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(hub_double: Any) -> None:
    Hub().ensure_repo("tester/made", "model")
    hub_double.lose(method="POST", on="/commit/")
    message(lambda: push(create_pr=True), hub_double.token)
    assert len(hub_double.repo("tester/made").pull_requests) == 1


def test_a_hub_that_hangs_is_asked_again(hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "SILENCE_S", 0.5)
    hub_double.slow(1.5, on="/api/models/tester/made$")
    hub_double.slow(1.5, on="/commit/")
    push()
    assert hub_double.files("tester/made") == CONTENT
    assert hub_double.commits("tester/made") == ["push"]
    assert len(hub_double.waits) >= 2
    hub_double.slow(1.5, on="/api/models/tester/made$", times=None)
    text = message(lambda: persist_once(hub_double), hub_double.token)
    assert "did not answer in time; run the same command again" in text


def persist_once(hub_double: Any) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub_double.url, token=hub_double.token)
    errand = Errand(doing="look", endpoint=hub_double.url, token=hub_double.token)
    with faults.quietly(hub_double.token):
        persist(lambda: api.model_info("tester/made"), errand, attempts=1)


def test_a_gated_repo_is_asked_for(hub_double: Any) -> None:
    push()
    hub_double.fail(403, on="/tree/", headers={"X-Error-Code": "GatedRepo"}, times=None)
    text = message(lambda: Hub().remote_files("tester/made", "model"), hub_double.token)
    assert text.endswith(f"; ask for access at {hub_double.url}/tester/made")


def test_no_hub_at_the_address(hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", nobody)
        text = message(push, hub_double.token)
    assert f"there is no Hub at {nobody}" in text
    assert f"try: curl -I {nobody}, and look at HF_ENDPOINT" in text
    assert sum(hub_double.waits) == 15


def test_a_server_that_is_no_hub(hub_double: Any) -> None:
    hub_double.fail(200, message="<html>Welcome</html>", times=None)
    text = message(push, hub_double.token)
    assert "answered with something that no Hub says" in text
    assert "look at HF_ENDPOINT, and whether a proxy stands between" in text


def test_offline_is_obeyed(hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = message(push, hub_double.token)
    assert "HF_HUB_OFFLINE is set" in text
    assert "type: unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE" in text
    assert not hub_double.requests
    assert hub_double.waits == []


def test_no_token(hub_double: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        HubError, match=r"^no token for http.*: make one at .*export HF_TOKEN=\.\.\."
    ):
        push()
    Hub(token=hub_double.token).ensure_repo("tester/made", "model")
    text = message(push, hub_double.token)
    assert "it needs a token (or there is no model tester/made): make one at" in text
    # What is public can be read without one.
    pull("tester/made", "model", tmp_path / "made")
    assert not Hub().has_token


def test_a_token_that_is_not_known(hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "hf_thisTokenIsNotKnownToAnybody"
    monkeypatch.setenv("HF_TOKEN", wrong)
    text = message(push, wrong)
    assert "answered 401: Invalid credentials in Authorization header; the token is not val" in text


def test_a_card_with_broken_front_matter_is_named(hub_double: Any) -> None:
    Hub().ensure_repo("tester/made", "model")
    files = {"README.md": LocalFile(content=b"---\na: [\n---\n")}
    text = message(
        lambda: Hub().upload("tester/made", "model", files, message="m"), hub_double.token
    )
    assert "Invalid metadata in README.md" in text
    assert "correct what it names and run the same command again" in text
    assert hub_double.commits("tester/made") == []


def test_a_file_that_went_away_is_named(hub_double: Any, tmp_path: Path) -> None:
    path = tmp_path / "gone.bin"
    path.write_bytes(LARGE)

    class Overtaken(Hub):
        def plan(self, *args: Any, **options: Any) -> Any:
            changes = super().plan(*args, **options)
            path.unlink()
            return changes

    Hub().ensure_repo("tester/made", "model")
    files = {"gone.bin": LocalFile(path=path)}
    with pytest.raises(HubError, match=r"cannot read .*gone.bin: No such file or directory; put "):
        Overtaken().upload("tester/made", "model", files, message="m")


# -- the token


def test_the_token_is_nowhere(
    hub_double: Any,
    seen: Seen,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A Hub that repeats it in every answer, at every step, and on the way down as well."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("huggingface_hub").setLevel(logging.DEBUG)
    said = "your token {token} is bad"
    for on in STEPS.values():
        hub_double.fail(503, on=on, times=1, message=said)
    push()
    pull("tester/made", "model", tmp_path / "made")
    texts = []
    for status in (400, 401, 403, 404, 500):
        hub_double.fail(status, times=None, message=said)
        texts.append(message(push, hub_double.token))
        hub_double.faults.clear()
    assert any("your token *** is bad" in text for text in texts)
    captured = capfd.readouterr()
    shown = [captured.out, captured.err, caplog.text, *seen.lines, repr(Hub())]
    assert not [text for text in shown if hub_double.token in text]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    secret = hub_double.token.encode()
    assert not [path for path in written if secret in path.read_bytes()]


def test_the_library_says_nothing_itself(
    hub_double: Any, seen: Seen, capfd: pytest.CaptureFixture[str]
) -> None:
    hub_double.fail(503, on=STEPS["send"], times=1)
    push()
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert any("HTTP Error 503" in line for line in seen.lines)
    handlers = logging.getLogger("huggingface_hub").handlers
    assert not [handler for handler in handlers if type(handler).__module__ == faults.__name__]


def test_threads_inside_at_once_leave_the_library_as_it_was(hub_double: Any) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import are_progress_bars_disabled

    logger = logging.getLogger("huggingface_hub")
    before = (logger.handlers[:], get_session().event_hooks, are_progress_bars_disabled())
    first, second = faults.quietly("a"), faults.quietly("b")
    with first:
        thread = threading.Thread(target=second.__enter__)
        thread.start()
        thread.join()
        assert are_progress_bars_disabled()
    assert are_progress_bars_disabled()  # the second is still inside
    second.__exit__(None, None, None)
    assert (logger.handlers[:], get_session().event_hooks, are_progress_bars_disabled()) == before


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("a secret b", "a *** b"),
        ("hf_abcdefghijklmnopqrst", "***"),
        ("hf_hub_download of hf_xet", "hf_hub_download of hf_xet"),
        ("https://s3/key?X-Amz-Signature=abc 'x'", "https://s3/key 'x'"),
        ("two\n lines", "two lines"),
    ],
)
def test_hide(text: str, hidden: str) -> None:
    assert hide(text, "secret") == hidden


def test_what_is_a_defect_is_not_called_a_fault() -> None:
    errand = Errand(doing="do", endpoint="https://h", token="secret")
    assert "secret" not in repr(errand)
    with pytest.raises(KeyError):
        persist(lambda: {}["a"], errand)


PROGRAM = """
import sys, json
from pathlib import Path
from candlemark.errors import HubError
from candlemark.hub.client import Hub
from candlemark.hub.changes import LocalFile
assert "huggingface_hub" not in sys.modules
assert "torch" not in sys.modules
try:
    Hub().remote_files("tester/made", "model")
except HubError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_offline_in_a_process_of_its_own(hub_double: Any) -> None:
    """The variable is read when the library is imported; nothing here imports torch."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot list the files of the model tester/made: HF_HUB_OFFLINE")
    assert json.dumps(hub_double.token)[1:-1] not in done.stdout + done.stderr


XET_PROGRAM = """
from candlemark.errors import HubError
from candlemark.hub.client import Hub
from candlemark.hub.changes import LocalFile
hub = Hub()
hub.ensure_repo("tester/made", "model")
try:
    hub.upload("tester/made", "model", {"a.bin": LocalFile(content=bytes(99999))}, message="m")
except HubError as error:
    print(error)
"""


def test_a_xet_store_that_is_not_there_is_one_line_and_never_sees_the_token(
    hub_double: Any, tmp_path: Path
) -> None:
    store = hub_double.with_xet()
    there, store.address = store.address, "http://127.0.0.1:9"
    quick = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1", "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms"}

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", XET_PROGRAM],
            env=os.environ | quick,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert hub_double.token not in done.stdout + done.stderr
        return done.stdout

    told = run()
    assert told.startswith("cannot upload to the model tester/made: Network error: ")
    assert told.endswith("; run the same command again, what has arrived is kept\n")
    assert told.count("\n") == 1
    assert hub_double.commits("tester/made") == []
    store.address = there
    assert run() == ""
    assert hub_double.files("tester/made") == {"a.bin": bytes(99999)}
    # hf_xet keeps logs of its own.
    written = [path for path in (tmp_path / "hf_home").rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in written)
    assert not [path for path in written if hub_double.token.encode() in path.read_bytes()]
