"""Which images this mirror answers for. Pure.

Order: the allow-list of registries, then the filters. Both answers are a 404: containerd goes on to the
next host, as if the mirror were not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirror.oci.distribution import ByTag, DistributionRequest

_CONTAINERD = re.compile(r"containerd/v?(\d+)\.(\d+)")


class Policy:
    """`mirrors`: registries that are mirrored, all when empty. `filters`: images that are not, matched anywhere in
    `registry/repository:tag` or `registry/repository@digest`."""

    def __init__(self, mirrors: Sequence[str], filters: Sequence[re.Pattern[str]]) -> None:
        self._mirrors = frozenset(mirrors)
        self._filters = tuple(filters)

    def refusal(self, request: DistributionRequest) -> str | None:
        """Why the request is not answered; None: it is."""
        if self._mirrors and request.registry not in self._mirrors:
            return f"{request.registry} is not among the mirrored registries"
        if any(pattern.search(request.image_name) for pattern in self._filters):
            return f"{request.image_name} is filtered"
        return None


def closes_on_refused_tag(request: DistributionRequest, user_agent: str) -> bool:
    """Whether a tag that the fallback host refuses is refused by ending the connection.

    Measured: containerd 2.1 shows its user the origin's own error only then; before 2.1 a 404 does it.
    """
    found = _CONTAINERD.match(user_agent)
    if found is None or not isinstance(request.reference, ByTag):
        return False
    return (int(found[1]), int(found[2])) >= (2, 1)
