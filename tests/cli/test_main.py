"""The command as a whole: one line for what went wrong, exit statuses, --debug, --version."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from candlemark import __version__
from candlemark.candles.mirror import Fault, Mirror
from candlemark.cli import main as command
from candlemark.errors import NotFoundError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CANDLEMARK_BINANCE_URL", raising=False)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_version(call):
    assert call("--version") == (0, f"candlemark {__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("candles",), ("dataset",), ("results",)], ids=" ".join)
def test_a_group_alone_shows_its_help_and_nothing_else(call, words: Sequence[str]):
    status, out, err = call(*words)
    assert status == 2
    assert "Usage: candlemark" in out
    assert err == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["moon"], "error: No such command 'moon'; see: candlemark --help"),
        (["bench", "--moon"], "; see: candlemark bench --help"),
        (["run"], "error: Missing argument 'CONFIG'; see: candlemark run --help"),
        (["doctor", "extra"], "extra argument(s) (extra); see: candlemark doctor --help"),
        (["bench", "--max-samples", "many"], "Invalid value for '--max-samples':"),
        (["demo", "--seed", "-1"], "Invalid value for '--seed':"),
        (["candles", "show"], "see: candlemark candles show --help"),
    ],
)
def test_words_that_cannot_be_parsed_are_one_line(call, words: list[str], line: str):
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line.lower() in err.lower()


def test_a_user_error_is_one_line_and_status_2(call):
    status, out, err = call("candles", "show", "absent.csv")
    assert (status, out) == (2, "")
    assert err.startswith("error: absent.csv does not exist; name a file ending in .csv")
    assert err.count("\n") == 1


@pytest.mark.parametrize("place", [0, 3])
def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch, place: int):
    words = ["candles", "show", "absent.csv"]
    words.insert(place, "--debug")
    monkeypatch.setattr(sys, "argv", ["candlemark", *words])
    with pytest.raises(NotFoundError, match="does not exist"):
        command.main()


def test_what_the_system_refuses_names_the_place(call, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/data/candles.parquet")

    monkeypatch.setattr("candlemark.candles.source.load", full)
    status, _, err = call("candles", "show", "random_walk")
    assert (status, err) == (2, "error: No space left on device: /data/candles.parquet\n")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A mirror folder that holds one day of BTCUSDT in hours."""
    name = "BTCUSDT-1h-2024-01-05"
    folder = tmp_path / "mirror/data/spot/daily/klines/BTCUSDT/1h"
    folder.mkdir(parents=True)
    first = 1_704_412_800_000
    rows = [
        f"{first + hour * 3_600_000},10,12,9,11,5,{first + (hour + 1) * 3_600_000 - 1},50,7,2,20,0"
        for hour in range(24)
    ]
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as made:
        made.writestr(f"{name}.csv", "\n".join(rows) + "\n")
    digest = hashlib.sha256((folder / f"{name}.zip").read_bytes()).hexdigest()
    (folder / f"{name}.zip.CHECKSUM").write_text(f"{digest}  {name}.zip\n", encoding="utf-8")
    return tmp_path / "mirror"


DAY = ("candles", "fetch", "BTCUSDT", "--start", "2024-01-05", "--end", "2024-01-05")


@pytest.mark.parametrize(
    "fault",
    ["429:times=1:seconds=0", "500:times=1", "cut:match=.zip$:times=1:at=100", "checksum:times=1",
     "flip:match=.zip$:times=1:at=200", "slow:seconds=0", "norange"],
)  # fmt: skip
def test_faults_of_a_mirror_that_pass_end_in_candles(call, archive: Path, fault: str):
    with Mirror(archive, faults=[Fault.parse(fault)]) as mirror:
        status, out, _ = call(*DAY, "--base-url", mirror.url)
    assert status == 0
    assert out == "BTCUSDT 1h: 24 candles, 2024-01-05 00:00 to 2024-01-05 23:00 UTC\n"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("403", "answered 403; it refuses this region"),
        ("404", "BTCUSDT"),
        ("418:seconds=120", "(418) until 20"),
        ("429:seconds=9999", "asks to wait 9999 s"),
        ("checksum", "does not have its published SHA-256"),
    ],
)
def test_faults_of_a_mirror_that_stay_are_one_line_and_leave_no_file(
    call, archive: Path, tmp_path: Path, fault: str, line: str
):
    with Mirror(archive, faults=[Fault.parse(fault)]) as mirror:
        status, out, err = call(*DAY, "--base-url", mirror.url, "--out", "x.csv")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert err.count("error: ") == 1
    assert line in err
    assert not Path("x.csv").exists()
    assert not list((tmp_path / "cache").rglob("*.zip"))


def test_a_rule_of_the_candles_is_exit_status_1(call):
    Path("x.csv").write_text(
        "time,open,high,low,close,volume\n1704067200,1,0.1,0.5,1,1\n", encoding="utf-8"
    )
    assert call("candles", "show", "x.csv", "--interval", "1h")[0] == 1


def test_ctrl_c_is_one_line_and_status_130(call, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("candlemark.candles.source.load", interrupt)
    assert call("candles", "show", "random_walk") == (
        130,
        "",
        "interrupted; what is finished is kept, the same command goes on\n",
    )


def test_a_gate_that_is_interrupted_keeps_nothing(call, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("candlemark.launch.gate.run_gate", interrupt)
    words = ("gate", "tiny:bert", "--baseline", "main", "--fail-on", "load_s>+5%")
    status, _, error = call(*words)
    assert status == 130
    assert error == "interrupted; nothing was decided, the same command begins again\n"


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("export", "nowhere", "--to", "folder", "--out", "out"), "lazy.open_dataset"),
        (("import", "nowhere", "--out", "out"), "sharing.folder_import.import_folder"),
    ],
)
def test_what_appears_whole_or_not_at_all_was_not_made(call, monkeypatch, words, where):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"candlemark.dataset.{where}", interrupt)
    status, _, error = call("dataset", *words)
    assert status == 130
    assert error == "interrupted; the folder was not made, the same command makes it\n"


def test_help_names_every_command_in_full(call):
    status, text, _ = call("--help")
    assert status == 0
    commands = text.partition("Commands:")[2]
    for name in ("demo", "bench", "run", "report", "doctor", "dataset", "models", "results"):
        assert f"\n  {name} " in commands
    assert "..." not in commands


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['candlemark', '--help']\n"
        "from candlemark.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pyarrow', 'numba', 'pydantic', 'duckdb', 'matplotlib', 'httpx',"
        " 'pandas', 'numpy', 'rich', 'markdown_it'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("says", "shown"),
    [
        ("%s is an Enum subclass and is now natively supported by torch.compile", False),
        ("%s was registered twice", True),
    ],
)
def test_one_remark_of_torch_about_torchao_is_not_shown(call, caplog, says: str, shown: bool):
    import logging

    call("--version")
    logging.getLogger("torch.utils._pytree").warning(says, "KernelPreference")
    assert bool(caplog.records) is shown


def test_what_torch_says_where_torchao_is_installed_is_not_shown():
    pytest.importorskip("torchao")
    program = (
        "import sys; sys.argv = ['candlemark', '--version']\n"
        "from candlemark.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: import transformers.modeling_utils"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
