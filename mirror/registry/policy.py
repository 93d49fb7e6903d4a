"""Which images this mirror answers for, and how it treats whom. Pure.

Order: the allow-list of registries, the filters, then what is protected. All three are a 404: containerd goes on to the
next host, as if the mirror were not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirror.oci.distribution import ByTag, DistributionRequest
from mirror.oci.scope import ImageScope

PROTECTED = "{} is protected: the registry answers for it"
# Its own daemon, and its library in Docker's (28, with containerd's image store).
_CONTAINERD = re.compile(r"(?:^containerd|^docker/.* containerd-client)/v?(\d+)\.(\d+)")


class Policy:
    """`mirrors`: registries that are mirrored, all when empty. `filters`: images that are not, matched anywhere in
    `registry/repository:tag` or `registry/repository@digest`. `protected`: whose manifests are the registry's to
    give."""

    def __init__(
        self,
        mirrors: Sequence[str],
        filters: Sequence[re.Pattern[str]],
        protected: Sequence[ImageScope] = (),
    ) -> None:
        self._mirrors = frozenset(mirrors)
        self._filters = tuple(filters)
        self._protected = tuple(protected)

    def refusal(self, request: DistributionRequest) -> str | None:
        """Why the request is not answered, at whichever host; None: it is."""
        if self._mirrors and request.registry not in self._mirrors:
            return f"{request.registry} is not among the mirrored registries"
        if any(pattern.search(request.image_name) for pattern in self._filters):
            return f"{request.image_name} is filtered"
        if request.is_manifest and self.is_protected(request):
            return PROTECTED.format(request.image_name)
        return None

    def is_protected(self, request: DistributionRequest) -> bool:
        """Whether the repository's manifests are the registry's to give, at whatever path they are asked for."""
        return any(scope.covers(request.registry, request.repository) for scope in self._protected)


def closes_on_refused_tag(request: DistributionRequest, user_agent: str) -> bool:
    """Whether a tag that the fallback host refuses is refused by ending the connection.

    Measured: containerd 2.1 shows its user the origin's own error only then; before 2.1 a 404 does it.
    """
    found = _CONTAINERD.search(user_agent)
    if found is None or not isinstance(request.reference, ByTag):
        return False
    return (int(found[1]), int(found[2])) >= (2, 1)


def chooses_once(namespace: str | None, user_agent: str) -> bool:
    """Whether the client stays with the mirror that gave it the manifest, so that a blob that is missing there fails
    its pull. Measured: Podman 4.3, and CRI-O has the same library. Who sends a namespace is containerd, and Docker
    before its containerd store goes to the next mirror blob by blob."""
    return not namespace and not user_agent.startswith(("containerd/", "docker/"))
