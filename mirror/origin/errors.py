"""What can go wrong between this host and an origin. `detail` is in words for an operator, and holds no secret."""

from __future__ import annotations

from mirror.errors import TransferError


class OriginError(TransferError):
    """Base class. `where` is the endpoint or the repository."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"{where} {detail}")
        self.where = where
        self.detail = detail


class OriginRefused(OriginError):
    """401 or 403, after the token flow: not for these credentials, or not without any."""


class OriginAbsent(OriginError):
    """404: the registry does not have it, or does not say that it has."""


class OriginRateLimited(OriginError):
    """429. `retry_after_s` 0: not said."""

    def __init__(self, where: str, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(where, detail)
        self.retry_after_s = retry_after_s


class OriginFailing(OriginError):
    """5xx, no connection, no answer in time."""


class OriginBroke(OriginFailing):
    """The body ended before its end."""


class OriginStalled(OriginFailing):
    """No byte for too long."""


class OriginNonsense(OriginError):
    """What came back cannot be: wrong bytes, a size that changes, a range nobody asked for, no HTTP."""


class OriginForbidden(OriginError):
    """An address that this daemon must not connect to: nobody on this host named it."""
