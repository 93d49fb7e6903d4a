"""What the container image is made of and what is left out: the decisions of docs/adr/0020, as values.

Fetches nothing and writes nothing. The Dockerfile states the same entry point, environment and paths; a test compares.
"""

from __future__ import annotations

import re
from typing import Final

# The suite whose Python the lock is compiled for and CI runs; with its security updates where the machine has them.
SUITE: Final = "bookworm"
PYTHON: Final = "python3.11"
PYTHON_VERSION: Final = "3.11"
# glibc of the suite: wheels that ask for a newer one would not load.
GLIBC_MINOR: Final = 36

# Debian's name of an architecture: the suffix of wheels, and the folder of its libraries.
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
LOADERS: Final = {"amd64": "usr/lib64/ld-linux-x86-64.so.2", "arm64": "usr/lib/ld-linux-aarch64.so.1"}

# Every library that a program or extension of the image asks for; the build fails where one is lacking.
DEBIAN_PACKAGES: Final = (
    "base-files",  # os-release, licences, folders
    "ca-certificates",
    "gcc-12-base",  # the licence of the two libraries of GCC
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
)

LIB: Final = f"usr/lib/{PYTHON}"
# Debian's folder for what its package manager did not put there: in sys.path by default.
SITE: Final = f"usr/local/lib/{PYTHON}/dist-packages"
COMMAND: Final = "usr/bin/peili"
SBOM: Final = "usr/share/doc/peili/sbom.spdx.json"
CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
DATA_DIR: Final = "var/lib/peili"

# -P: the folder of the script is no place to import from. -s: nor is a home directory.
COMMAND_TEXT: Final = (
    f"#!/usr/bin/{PYTHON} -sP\nimport sys\n\nfrom mirror.cli.main import main\n\nsys.exit(main())\n"
)

ENTRYPOINT: Final = ("/usr/bin/peili",)
COMMAND_ARGUMENTS: Final = ("serve",)
WORKING_DIR: Final = "/"
# containerd's socket belongs to root and has mode 0660.
USER: Final = "0:0"
ENVIRONMENT: Final = {
    "PATH": "/usr/bin",
    # The root is read-only, and byte code is there already.
    "PYTHONDONTWRITEBYTECODE": "1",
    # A log line is seen when it is written, also by who reads the log of a killed daemon.
    "PYTHONUNBUFFERED": "1",
}
# TCP and UDP of the peers; all other ports listen on loopback.
EXPOSED_PORTS: Final = ("29021/tcp", "29021/udp")

# Of Debian packages: what no running program reads.
_DEBIAN_UNUSED: Final = re.compile(
    r"usr/share/(?:man|info|lintian|bug|doc-base|binfmts|gcc|gdb|locale|base-files|dict|misc)(?:/|$)"
    r"|usr/share/doc/(?!.*/copyright$|[^/]+$)"
    r"|usr/lib/binfmt\.d/|usr/share/python3\.11/|usr/share/ca-certificates/|usr/sbin/|usr/games|usr/include|usr/src"
    # Character sets for iconv, which Python does not use.
    r"|usr/lib/[^/]+/gconv/|usr/lib/[^/]+/(?:libmvec|libpcprofile|libmemusage)\.so|usr/lib/[^/]+/audit/"
    r"|boot$|home$|media$|mnt$|opt$|srv$|var/(?:backups|mail|opt|lock|spool|local|cache|log)(?:/|$)|etc/(?:skel|cron|profile|motd|"
    r"default|update-motd|issue|ca-certificates|init\.d|dpkg|debian_version|kernel|ld\.so)"
    # Of the standard library: tests, the text of help(), installers, and what needs a screen.
    rf"|{LIB}/(?:test|pydoc_data|turtledemo|ensurepip|venv|distutils|lib2to3|idlelib|tkinter|curses|dbm|sqlite3|unittest|xmlrpc)(?:/|$)"
    rf"|{LIB}/(?:doctest|turtle|antigravity|this|_osx_support|_aix_support)\.py|{LIB}/EXTERNALLY-MANAGED"
    # Extensions of those, of libraries that the image does not have, and of East Asian character sets.
    rf"|{LIB}/lib-dynload/(?:_test|_ctypes_test|_xxtest|xxlimited|_curses|_dbm|_sqlite3|readline|nis|ossaudiodev|_codecs_)"
)
# Of wheels: sources of extensions, stubs and tests.
_WHEEL_UNUSED: Final = re.compile(
    r"\.(?:pyx|pxd|pyi|c|h|pxi|hash)$|^kademlia/tests/|/_testcapi\.|/\.hash/"
    r"|\.dist-info/(?:INSTALLER|REQUESTED|RECORD|direct_url\.json)$|^bin/"
)
# Lexers and styles are read by who prints source code: nobody here. Their byte code would be 4 MB.
NOT_COMPILED: Final = r"/pygments/(?:lexers|styles)/"


def is_unused_of_debian(path: str) -> bool:
    """path: from the root, /lib and the like already below usr/."""
    return _DEBIAN_UNUSED.match(path) is not None


def is_unused_of_wheel(path: str) -> bool:
    """path: from the wheel's root."""
    return _WHEEL_UNUSED.search(path) is not None


def wheel_platforms(architecture: str) -> list[str]:
    """For pip, newest first: it does not know that a newer glibc runs what an older one ran."""
    machine = MACHINES[architecture]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 16, -1)]
    return [*tags, f"manylinux2014_{machine}"]
