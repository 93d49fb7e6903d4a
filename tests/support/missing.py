"""What a test needs and this machine lacks: one reason code, a sentence, and what would mend it.

No pytest here, so that scripts can use it cheaply; `tests.support.skips` turns a `Missing` into a skip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Every reason a test of this project may be skipped for. TEST_EXPECT_SKIPS names these.
NO_ROOT: Final = "no-root"
NO_NETNS: Final = "no-netns"
NO_DEBIAN_SOURCES: Final = "no-debian-sources"
NO_TOOLS: Final = "no-tools"
NO_CGROUPS: Final = "no-cgroups"
# kube-apiserver, which takes minutes to build and is made on demand only.
NO_KUBE_APISERVER: Final = "no-kube-apiserver"
# Programs of `make client-tools`, likewise.
NO_CLIENT_TOOLS: Final = "no-client-tools"
# A skip that carries no code at all, made by a bare pytest.skip or skipif.
UNCODED: Final = "uncoded"

_SKIP_TEXT: Final = re.compile(
    r"\[(?P<code>[a-z0-9-]+)\] (?P<reason>.*?)(?: To enable: (?P<enable>.*))?$", re.S
)


@dataclass(frozen=True, slots=True)
class Missing:
    code: str
    reason: str
    enable: str = ""

    def __str__(self) -> str:
        text = f"[{self.code}] {self.reason}"
        return f"{text} To enable: {self.enable}" if self.enable else text


def parse_missing(text: str) -> Missing:
    """The `Missing` that str() turned into `text`; code `uncoded` for any other text."""
    found = _SKIP_TEXT.match(text)
    if found is None:
        return Missing(UNCODED, text, "give the skip a reason code: tests.support.skips.require")
    return Missing(found["code"], found["reason"], found["enable"] or "")
