"""Coverage-guided fuzzing of the path of a datagram (tests/fuzz/datagram_target.py), with atheris.

    pip install atheris
    python -m tests.fuzz.datagram_corpus unpack FOLDER
    python -m tests.fuzz.fuzz_datagrams FOLDER -max_total_time=600 -use_value_profile=1
    python -m tests.fuzz.datagram_corpus pack FOLDER

The arguments are libFuzzer's. A finding is written to a file `crash-…`: give that file as the argument to see it
again. What was found stays in `datagrams.corpus` and is replayed by tests/unit/dht/test_fuzz_corpus.py.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["dht"]):
    from tests.fuzz import datagram_target
from tests.fuzz.datagram_corpus import INPUT_MAX_BYTES


def one_input(data: bytes) -> None:
    datagram_target.run(data)


def main() -> None:
    atheris.Setup([*sys.argv, f"-max_len={INPUT_MAX_BYTES}"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
