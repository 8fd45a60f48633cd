"""Tiny archives, written on the spot, and clocks that do not wait."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from candlemark import progress
from candlemark.candles.archive_files import ArchiveFile, days, months
from candlemark.candles.klines import KLINE_COLUMNS
from candlemark.candles.series import interval_ms


def utc_ms(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


def kline_csv(
    start_ms: int, count: int, *, interval: str = "1h", per_ms: int = 1, header: bool = False
) -> bytes:
    """Kline rows whose price is 100 + row, column 6 is 5 and column 8 is 500."""
    step = interval_ms(interval)
    lines = [",".join(KLINE_COLUMNS)] if header else []
    for row in range(count):
        opened = start_ms + row * step
        price = 100 + row
        lines.append(
            f"{opened * per_ms},{price}.0,{price + 2}.0,{price - 1}.0,{price + 1}.0,5.0,"
            f"{(opened + step) * per_ms - 1},500.0,7,2.0,200.0,0"
        )
    return ("\n".join(lines) + "\n").encode()


def zipped(data: bytes, name: str = "x.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


@dataclass
class ArchiveFolder:
    """A folder in the archive's layout that tests fill with months and days."""

    root: Path

    @property
    def url(self) -> str:
        return self.root.as_uri()

    def put(self, file: ArchiveFile, data: bytes) -> Path:
        path = self.root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        checksum = f"{hashlib.sha256(data).hexdigest()}  {file.name}\n"
        path.with_name(f"{file.name}.CHECKSUM").write_text(checksum, encoding="utf-8")
        return path

    def month(
        self,
        year: int,
        month: int,
        *,
        symbol: str = "BTCUSDT",
        interval: str = "1h",
        market: str = "spot",
        count: int = 24,
        per_ms: int = 1,
        header: bool = False,
    ) -> Path:
        start = utc_ms(year, month, 1)
        file = months(market, symbol, interval, start, start + 1)[0]
        csv = kline_csv(start, count, interval=interval, per_ms=per_ms, header=header)
        return self.put(file, zipped(csv, file.name.replace(".zip", ".csv")))

    def day(
        self,
        year: int,
        month: int,
        day: int,
        *,
        symbol: str = "BTCUSDT",
        interval: str = "1h",
        count: int = 24,
    ) -> Path:
        start = utc_ms(year, month, day)
        file = days("spot", symbol, interval, start, start + 1)[0]
        return self.put(file, zipped(kline_csv(start, count, interval=interval)))


@pytest.fixture
def archive_folder(tmp_path: Path) -> ArchiveFolder:
    root = tmp_path / "mirror"
    root.mkdir()
    return ArchiveFolder(root)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's own cache, or asks Binance."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CANDLEMARK_CACHE", str(folder))
    monkeypatch.setenv("CANDLEMARK_BINANCE_URL", "http://127.0.0.1:9")
    return folder


@dataclass
class Messages:
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def handle(self, event: progress.Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.text)
        elif event.kind == "note":
            self.notes.append(event.text)


@pytest.fixture
def messages() -> Iterator[Messages]:
    """What the library said while the test ran."""
    heard = Messages()
    before = progress.set_reporter(heard)
    yield heard
    progress.set_reporter(before)


@dataclass
class FakeTime:
    """A clock that only its own sleep moves."""

    now_s: float = 1_735_700_000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def make_csv() -> Callable[..., bytes]:
    return kline_csv


@pytest.fixture
def make_zip() -> Callable[..., bytes]:
    return zipped
