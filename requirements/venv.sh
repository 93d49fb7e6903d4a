#!/bin/sh
# Makes .venv with the packages of one lock file: requirements/venv.sh run|cluster|dev
# Needs Python 3.11 or later. Debian splits pip and ensurepip from python3; where they are missing, pip's
# wheel is taken out of Debian's own package, unpacked below .tools/, never installed (no root needed).
set -eu
cd "$(dirname "$0")/.."
lock=$1
stamp=.venv/.installed-$lock
# A finished dev environment holds everything of the run environment.
want="$(cksum <requirements/"$lock".txt)"
for have in "$lock" dev; do
    [ "$(cat .venv/.installed-"$have" 2>/dev/null)" = "$(cksum <requirements/"$have".txt)" ] && exit 0
done

# The distribution's own first: what version managers build is seldom optimised (a daemon in a herd took an eighth
# more CPU), and the image ships Debian's.
python=
for candidate in ${PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "peili: no Python 3.11 to 3.13 found; install one (apt-get install python3) or set PYTHON=/path/to/python" >&2
    exit 1
fi

if [ ! -x .venv/bin/python ]; then
    echo "peili: making .venv with $("$python" --version)"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .venv
    else
        mkdir -p .tools/pip
        (
            cd .tools/pip
            [ -e ./*.deb ] 2>/dev/null || apt-get -q download python3-pip-whl python3-setuptools-whl 2>/dev/null || {
                apt-get -q update && apt-get -q download python3-pip-whl python3-setuptools-whl
            }
            for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
        )
        "$python" -m venv --without-pip .venv
        wheel=$(ls .tools/pip/usr/share/python-wheels/pip-*.whl)
        .venv/bin/python "$wheel/pip" --disable-pip-version-check install --quiet --no-index \
            --find-links .tools/pip/usr/share/python-wheels pip
    fi
fi
echo "peili: installing requirements/$lock.txt"
.venv/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/"$lock".txt
# The three packages themselves: a .pth file is all that an editable install amounts to, and needs no build tool.
.venv/bin/python - <<'PY'
import pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
(site / "peili.pth").write_text(f"{pathlib.Path.cwd()}\n")
script = pathlib.Path(".venv/bin/peili")
script.write_text(f"#!{pathlib.Path.cwd() / '.venv/bin/python'}\nimport sys\nfrom mirror.cli.main import main\nsys.exit(main())\n")
script.chmod(0o755)
PY
echo "$want" >"$stamp"
