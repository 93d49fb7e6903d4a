"""Which release this is. A source checkout has no package metadata to ask, so the number stands here."""

VERSION = "0.1.0"
