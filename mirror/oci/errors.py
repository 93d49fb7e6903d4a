"""How a failure is worded to a client of the registry API: code, status, body.

The only table from which HTTP statuses of errors come. To containerd none of them is 401, 408 or 429: it retries
those against the same host (measured, containerd 1.6 to 2.1).
Source: OCI distribution-spec v1.1, "Error Codes".
"""

from __future__ import annotations

import json
from enum import Enum


class ErrorCode(Enum):
    """Value: (status, message of the specification's table)."""

    BLOB_UNKNOWN = (404, "blob unknown to registry")
    MANIFEST_UNKNOWN = (404, "manifest unknown to registry")
    NAME_UNKNOWN = (404, "repository name not known to registry")
    NAME_INVALID = (400, "invalid repository name")
    DIGEST_INVALID = (400, "provided digest did not match uploaded content")
    MANIFEST_INVALID = (400, "manifest invalid")
    UNSUPPORTED = (405, "the operation is unsupported")
    RANGE_INVALID = (416, "range outside the blob")
    # To peers only.
    UNAUTHORIZED = (401, "authentication required")
    VERSION_UNSUPPORTED = (400, "wire version not spoken here")
    TOOMANYREQUESTS = (429, "too many requests")

    @property
    def status(self) -> int:
        return self.value[0]

    @property
    def message(self) -> str:
        return self.value[1]


def error_body(code: ErrorCode, detail: str) -> bytes:
    """The JSON body of the specification. `detail` is free text for whoever reads a trace."""
    error = {"code": code.name, "message": code.message, "detail": detail}
    return json.dumps({"errors": [error]}).encode()
