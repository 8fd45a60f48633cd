"""The klines API of Binance: the candles the archive does not have yet.

    with RestClient() as client:
        raw = client.load("BTCUSDT", "1h", start_ms=..., end_ms=...)

Pages of 1000 candles, in UTC. The weight this address has used in the running minute comes
back with each page; near the limit the client waits for the next minute, on 429 it waits as
long as it is told, and on 418 it stops with the time the ban ends. A candle that has not
closed yet is dropped: its numbers still move.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from candlemark.candles.archive_files import check_symbol
from candlemark.candles.fetch import Fetcher
from candlemark.candles.klines import parse_json
from candlemark.candles.raw import RawCandles, join
from candlemark.candles.series import format_time, interval_ms
from candlemark.errors import ConfigError, FetchError, NotFoundError
from candlemark.progress import note, track

REST_URLS = {
    "spot": "https://api.binance.com",
    "um": "https://fapi.binance.com",
    "cm": "https://dapi.binance.com",
}
KLINE_PATHS = {"spot": "api/v3/klines", "um": "fapi/v1/klines", "cm": "dapi/v1/klines"}
WEIGHT_LIMIT = {"spot": 6000, "um": 2400, "cm": 2400}
"""Weight that one address may use in a minute."""

PAGE = 1000
_WEIGHT_HEADER = "x-mbx-used-weight-1m"
_INVALID_SYMBOL = -1121
_INVALID_INTERVAL = -1120


class RestClient:
    """A client of one market's klines API."""

    def __init__(self, fetcher: Fetcher | None = None, *, market: str = "spot") -> None:
        self.fetcher = fetcher or Fetcher(REST_URLS[market])
        self.market = market
        if self.fetcher.folder is not None:
            raise ConfigError(
                f"{self.fetcher.base_url} is a folder, which has no API; use --via archive"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.fetcher.__exit__(kind, error, trace)

    def load(self, symbol: str, interval: str, *, start_ms: int, end_ms: int) -> RawCandles:
        """Closed candles with start_ms <= open time < end_ms.

        Raises NotFoundError: unknown symbol, or no candle in the range. FetchError,
        RateLimitError: the server did not answer, or asked to stop.
        """
        symbol = check_symbol(symbol)
        length = interval_ms(interval)
        parts: list[RawCandles] = []
        cursor = start_ms
        total = (min(end_ms, self._now_ms()) - start_ms) / length
        with track(f"{symbol} {interval}", total=total, unit="candles") as bar:
            while cursor < end_ms:
                page = self._page(
                    {
                        "symbol": symbol,
                        "interval": interval,
                        "startTime": cursor,
                        "endTime": end_ms - 1,
                        "limit": PAGE,
                    }
                )
                if len(page) == 0:
                    break
                if int(page.open_time_ms[0]) < cursor:
                    raise FetchError(
                        f"{self.fetcher.base_url} answers with a candle of "
                        f"{format_time(int(page.open_time_ms[0]))} UTC, before the time asked for"
                    )
                parts.append(page)
                bar.advance(len(page))
                cursor = int(page.open_time_ms[-1]) + length
        raw = self._closed(join(parts), length).between(start_ms, end_ms)
        if len(raw) == 0:
            raise NotFoundError(
                f"{self.fetcher.base_url} has no closed {self.market} candles of {symbol} "
                f"{interval} from {format_time(start_ms)} to {format_time(end_ms)} UTC"
            )
        return raw

    def newest_ms(self, symbol: str, interval: str) -> int:
        """When the newest closed candle ends, in UTC milliseconds. NotFoundError if none."""
        symbol = check_symbol(symbol)
        length = interval_ms(interval)
        page = self._page({"symbol": symbol, "interval": interval, "limit": 2})
        closed = self._closed(page, length)
        if len(closed) == 0:
            raise NotFoundError(
                f"{self.fetcher.base_url} has no closed {self.market} candle of {symbol} {interval}"
            )
        return int(closed.open_time_ms[-1]) + length

    def _closed(self, raw: RawCandles, length: int) -> RawCandles:
        return raw.between(None, self._now_ms() - length + 1)

    def _page(self, params: dict[str, str | int]) -> RawCandles:
        path = KLINE_PATHS[self.market]
        where = f"{self.fetcher.base_url}/{path}"
        answer = self.fetcher.get(path, params)
        try:
            value = json.loads(answer.body) if answer.status != 404 else {}
        except ValueError as error:
            raise FetchError(f"{where} does not answer in JSON: {answer.body[:80]!r}") from error
        if answer.status != 200 or not isinstance(value, list):
            raise self._refusal(value, answer.status, params, where)
        self._respect_weight(answer.headers.get(_WEIGHT_HEADER))
        return parse_json(value, market=self.market, where=where)

    def _refusal(
        self, value: Any, status: int, params: dict[str, str | int], where: str
    ) -> FetchError:
        code = value.get("code") if isinstance(value, dict) else None
        said = value.get("msg", "") if isinstance(value, dict) else ""
        if code == _INVALID_SYMBOL:
            return NotFoundError(
                f"{self.fetcher.base_url} knows no {self.market} symbol {params['symbol']}; "
                "check it (as in BTCUSDT) and --market; a delisted one may be in the archive "
                "(--via archive)"
            )
        if code == _INVALID_INTERVAL:
            return NotFoundError(f"{where} does not serve the interval {params['interval']}")
        if status == 404:
            return NotFoundError(f"{where} is not there (404); check --base-url and --market")
        return FetchError(f"{where} answered {status}: {said or 'no reason given'}")

    def _respect_weight(self, used: str | None) -> None:
        """Wait for the next minute once nine tenths of this minute's weight are used."""
        if used is None or not used.isdigit():
            return
        limit = WEIGHT_LIMIT[self.market]
        if int(used) >= 0.9 * limit:
            wait_s = 60 - self.fetcher.clock() % 60
            note(f"{used} of {limit} request weight used; waiting {wait_s:.0f} s")
            self.fetcher.sleep(wait_s)

    def _now_ms(self) -> int:
        return int(self.fetcher.clock() * 1000)
