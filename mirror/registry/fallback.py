"""What is asked at the fallback host: the origin failed this host, or refused it.

Rules
1. containerd asks here, request by request, after the origin answered 401, 403, 404, 429, 5xx or not at all (measured
   on 1.6, 1.7, 2.1). Each such request is counted, by what was asked for and by what the origin says to an anonymous
   question, where one is asked.
2. A manifest that the origin refuses to everybody, or has not, is not given: this host may be one that must not have
   it. A blob's digest is known to those alone who have the manifest.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from mirror.metrics import Metrics
from mirror.oci.distribution import ByTag, DistributionRequest
from mirror.origin.base import Probed, Prober, Repository, Standing
from mirror.steer.events import RefusalKind

log = logging.getLogger(__name__)

# An outage is one line a registry in so long, however many requests it fails.
LOG_EVERY_S = 60.0
LOGGED_MAX_COUNT = 256

_REFUSALS = {
    Standing.REFUSED: "the registry refuses it to anonymous clients, and failed this host",
    Standing.ABSENT: "the registry does not have it",
}
_KINDS = {
    Standing.PUBLIC: RefusalKind.SHOWN,
    Standing.REFUSED: RefusalKind.FORBIDDEN,
    Standing.ABSENT: RefusalKind.ABSENT,
    Standing.RATE_LIMITED: RefusalKind.LIMITED,
    Standing.FAILING: RefusalKind.FAILED,
    Standing.NOT_ASKED: RefusalKind.NOT_ASKED,
}


class OriginFailures:
    """`prober` None: no registry is asked. `clock`: monotonic seconds."""

    def __init__(self, prober: Prober | None, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._prober = prober
        self._metrics = metrics
        self._clock = clock
        self._logged_at: OrderedDict[str, float] = OrderedDict()

    async def refusal_of_manifest(
        self, wanted: DistributionRequest, reference: str
    ) -> tuple[str | None, RefusalKind]:
        """Why the manifest is not given, None: it may be; and what the origin says. Records the failure."""
        probed = None
        if self._prober is not None:
            probed = await self._prober.probe(Repository(wanted.registry, wanted.repository), reference)
        self.record(wanted, probed)
        if probed is None:
            return None, RefusalKind.NOT_ASKED
        return _REFUSALS.get(probed.standing), _KINDS[probed.standing]

    def record(self, wanted: DistributionRequest, probed: Probed | None) -> None:
        kind = "blob"
        if wanted.is_manifest:
            kind = "tag" if isinstance(wanted.reference, ByTag) else "manifest"
        standing = Standing.NOT_ASKED if probed is None else probed.standing
        self._metrics.origin_failures.labels(kind, standing.value).inc()
        now = self._clock()
        logged_at = self._logged_at.get(wanted.registry)
        if logged_at is not None and now - logged_at < LOG_EVERY_S:
            return
        self._logged_at[wanted.registry] = now
        self._logged_at.move_to_end(wanted.registry)
        if len(self._logged_at) > LOGGED_MAX_COUNT:
            self._logged_at.popitem(last=False)
        log.warning(
            "the registry failed this host, containerd asks for what it did not give",
            extra={
                "registry": wanted.registry,
                "image": wanted.image_name,
                "anonymously": standing.value if probed is None else probed.detail or standing.value,
            },
        )
