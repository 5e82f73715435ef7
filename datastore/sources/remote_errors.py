"""What the clients of services raise, in our words: is it the name, the credentials, the space, or the way there?

fsspec's HTTP client raises FileNotFoundError for whatever went wrong, with the reason as its cause; Arrow's clients
raise OSError without a number, and with the service's own code in the message.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from datastore.errors import InvalidArgument, NotFound, PergamonError, ResourceExhausted, Unavailable
from datastore.sources.rejects import without_query

_REFUSED = re.compile(
    r"\b(ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH|INVALID_ACCESS_KEY_ID|INVALID_SIGNATURE|EXPIRED_TOKEN|INVALID_CLIENT_TOKEN_ID"
    r"|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|AuthenticationFailed|AuthorizationFailure|HTTP status 40[13])\b"
)
_NO_BUCKET = re.compile(r"\bNO_SUCH_BUCKET\b")
_DOWN = re.compile(
    r"\b(NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|THROTTLING|curlCode"
    r"|HTTP status (429|5\d\d)|Could not resolve|[Cc]onnection refused|[Tt]imed? ?out)\b"
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOO_MANY = 429


def told(url: str, error: BaseException, field: str = "input") -> PergamonError | None:
    """An error of ours for what was raised for `url`; None where it says none of those, but perhaps "not found"."""
    shown = without_query(url)
    for cause in _causes(error):
        said = (str(cause) or type(cause).__name__).replace(url, shown)
        status = getattr(cause, "status", None) or getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return ResourceExhausted(f"no space left at {shown}: {said}", mend="free some space and run it again")
        if isinstance(cause, PermissionError) or status in (401, 403) or _REFUSED.search(said):
            return InvalidArgument(
                f"{shown!r} may not be accessed: {said}", mend="check the credentials in the environment", field=field
            )
        if _NO_BUCKET.search(said):
            return NotFound(f"there is no such bucket: {shown!r}", mend="check its name, and the endpoint", field=field)
        down = isinstance(status, int) and (status >= 500 or status == _TOO_MANY)
        if down or isinstance(cause, ConnectionError | TimeoutError) or _is_connection(cause) or _DOWN.search(said):
            return Unavailable(
                f"{shown!r} cannot be reached: {said}",
                mend="check the network and that the service is up, then run it again",
                field=field,
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def _is_connection(error: BaseException) -> bool:
    """Whether an HTTP client says that there was no connection: aiohttp's, requests' and httpx's classes."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint(
        {"ClientConnectionError", "ConnectionError", "ConnectError", "Timeout", "TimeoutException"}
    )
