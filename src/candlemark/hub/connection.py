"""Who asks, and where: one Hub's address, a token, and requests whose every failure is a HubError.

    class Hub(Connection): ...                     # what is asked, see `hub.client`

The token is held in memory alone: not in a file, a message, a log or a repr, and never pickled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from candlemark.errors import HubError
from candlemark.hub.faults import ATTEMPTS, Errand, persist, quietly, status_of
from candlemark.hub.transfer import TIMEOUT_S
from candlemark.progress import warning

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ENDPOINT = "https://huggingface.co"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

ResultT = TypeVar("ResultT")


class Connection:
    """A Hub and who we are there.

    endpoint: https://...; None: HF_ENDPOINT, or huggingface.co
    token: None: HF_TOKEN, or what `hf auth login` stored; without one, public repos can be read

    Raises HubError: the endpoint is no address.
    """

    writes = True
    """Whether anything is sent there; one that only reads is not told to get such a token."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        given = endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT
        parts = urlsplit(given)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise HubError(
                f"'{given}' is no address of a Hub; write https://HOST: "
                f"export HF_ENDPOINT={ENDPOINT}"
            )
        self.endpoint = given.rstrip("/")
        self._given = token.strip() if token else None
        self._found: tuple[HfApi, str | None] | None = None
        self._in_clear = parts.scheme == "http" and parts.hostname not in _LOOPBACK

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Hub holds a token and is not pickled; make one where it is used")

    @property
    def has_token(self) -> bool:
        """Whether requests carry a token."""
        return self._connection()[1] is not None

    def token_stands_in(self, content: bytes) -> bool:
        """Whether these bytes tell the token."""
        token = self._connection()[1]
        return token is not None and token.encode() in content

    def user(self) -> str | None:
        """The name behind the token; None where the Hub knows none, as some mirrors do.

        Raises HubError: there is no token, or it is not valid.
        """
        self._need_token()

        def find(api: HfApi) -> str | None:
            try:
                return str(api.whoami()["name"])
            except Exception as error:
                if status_of(error) == 404:
                    return None
                raise

        return self._ask("ask whose token this is", find)

    def _need_token(self) -> None:
        if not self.has_token:
            raise HubError(
                f"no token for {self.endpoint}: make one at {self.endpoint}/settings/tokens "
                "and export HF_TOKEN=..., or run: hf auth login"
            )

    def _get(self, api: HfApi, address: str) -> Any:
        """A plain GET; None for a 404."""
        from huggingface_hub import get_session, hf_raise_for_status

        response = get_session().get(address, headers=self._headers(api), timeout=TIMEOUT_S)
        if response.status_code == 404:
            return None
        hf_raise_for_status(response)
        return response

    def _headers(self, api: HfApi) -> dict[str, str]:
        from huggingface_hub.utils._headers import build_hf_headers

        return build_hf_headers(
            token=api.token, library_name="candlemark", library_version=version("candlemark")
        )

    def _ask(
        self,
        doing: str,
        action: Callable[[HfApi], ResultT],
        *,
        repo: str = "",
        attempts: int = ATTEMPTS,
        retry_lost: bool = True,
        stop: Event | None = None,
    ) -> ResultT:
        """Do something at the Hub; every failure is a HubError."""
        api, token = self._connection()
        errand = Errand(
            doing=doing,
            endpoint=self.endpoint,
            repo=repo,
            token=token,
            stop=stop,
            writes=self.writes,
        )
        with quietly(token):
            return persist(lambda: action(api), errand, attempts=attempts, retry_lost=retry_lost)

    def _connection(self) -> tuple[HfApi, str | None]:
        """The library's client and the token it sends; made at first use."""
        if self._found is None:
            from huggingface_hub import HfApi, get_token

            token = self._given or get_token()
            api = HfApi(
                endpoint=self.endpoint,
                # False: no token at all, rather than one that the library finds by itself.
                token=token or False,
                library_name="candlemark",
                library_version=version("candlemark"),
            )
            self._found = api, token
            if token and self._in_clear:
                warning(f"the token goes to {self.endpoint} unencrypted; use https", task="hub")
        return self._found
