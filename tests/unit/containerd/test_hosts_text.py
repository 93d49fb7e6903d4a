"""TOML in and out: the writer against tomllib, the cut into statements, reading, and the splice."""

import tomllib
from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.hosts_file import Host, HostsFile, certificate_options, moved, read, render
from containerd.hosts.layout import Mirror, mirror_first, with_fallback
from containerd.hosts.names import Registry
from containerd.hosts.splice import BEGIN, END, KEPT, splice, unsplice, with_empty_blocks
from containerd.hosts.toml_text import Table, logical_lines, quote, table, value_text
from tests.support.hosts_trees import hosts_tomls

MIRROR = Mirror("http://127.0.0.1:29020", "upstream", (2, 1))
OFF = Mirror("http://127.0.0.1:29020", "off", (2, 1))
REGISTRY = Registry.parse("reg.test:5000")

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_scalars = st.one_of(
    _texts,
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(allow_nan=False),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=2)))),
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3)
)
_tables = st.dictionaries(_texts, _values, max_size=5)


@given(_texts)
def test_a_quoted_string_is_read_back(text: str) -> None:
    assert tomllib.loads(f"k = {quote(text)}") == {"k": text}


@given(_texts, _tables)
def test_a_table_is_read_back_with_its_order(name: str, content: Table) -> None:
    text = table(("host", name), content)
    values: list[str] = []
    tables: list[str] = []
    for key, value in content.items():
        (tables if isinstance(value, dict) else values).append(key)
    read_back = tomllib.loads(text)["host"][name]
    assert read_back == content
    assert list(read_back) == values + tables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1, "1"),
        (1e300, "1e+300"),
        ('a\x7f\x01"\\\n', '"a\\u007f\\u0001\\"\\\\\\n"'),
        ([["a", "b"]], '[["a", "b"]]'),
        ([{"a b": 1}, {}], '[{ "a b" = 1 }, {}]'),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2, 3), "01:02:03"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert value_text(value) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("a = 1", ["a = 1"]),
        ("a = 1\n\n# [\n", ["a = 1\n", "\n", "# [\n"]),
        ("a = [\n 1, # ]\n 2\n]\nb=1\n", ["a = [\n 1, # ]\n 2\n]\n", "b=1\n"]),
        ('a = """\n[x]\n\\""" """\nb=1', ['a = """\n[x]\n\\""" """\n', "b=1"]),
        ("a = '''\n[''''\nb=1\n", ["a = '''\n[''''\n", "b=1\n"]),
        ('a = """"x"""""\nb = 1\n', ['a = """"x"""""\n', "b = 1\n"]),
        ('[host."a#["] # [\nb = {c = "{"}\r\n', ['[host."a#["] # [\n', 'b = {c = "{"}\r\n']),
        ("'a[' = \"\"\n\"#\" = ''\n", ["'a[' = \"\"\n", "\"#\" = ''\n"]),
    ],
)
def test_logical_lines(text: str, pieces: list[str]) -> None:
    tomllib.loads(text)
    assert list(logical_lines(text)) == pieces


@given(_tables)
def test_logical_lines_are_the_text_and_each_is_toml(content: Table) -> None:
    text = table(("t",), content)
    pieces = list(logical_lines(text))
    assert "".join(pieces) == text
    for piece in pieces:
        tomllib.loads(piece)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("server = 'x'\nca = [\n", 3, "not TOML"),
        ("\n\nserver 'x'\n", 3, "not TOML"),
        ("server = 1\n", None, "`server` must be a string"),
        ("host = 1\n", None, "`host` must hold tables"),
        ("[host]\na = 1\n", None, "host.a must be a table"),
        ("[[host]]\n", None, "`host` must hold tables"),
        ("[host.a]\nca = 1\n", None, "host.a: `ca`"),
        ("[host.a]\nclient = [['a', 'b', 'c']]\n", None, "`client`"),
        ("capabilities = 'pull'\n", None, "`capabilities`"),
        ("skip_verify = 1\n", None, "`skip_verify`"),
        ("[header]\na = 1\n", None, "`header`"),
        ("server = 'https://[x'\n", None, "not an address"),
        ("a = " + "[" * 5000, None, "nested too deeply"),
    ],
)
def test_what_containerd_would_refuse_is_an_error_that_names_the_place(
    text: str, line: int | None, words: str
) -> None:
    with pytest.raises(HostsFileInvalid, match=r"/etc/x/hosts\.toml") as caught:
        read(text, "/etc/x/hosts.toml")
    assert caught.value.line == line
    assert words in str(caught.value)


def test_hosts_keep_their_order_and_unknown_options_stay() -> None:
    text = 'server = "s"\nproxy = "p"\n[host.b]\nnew = [1]\n[host.a.header]\nx = ["1"]\n'
    assert read(text, "f") == HostsFile(
        "s", {"proxy": "p"}, (Host("b", {"new": [1]}), Host("a", {"header": {"x": ["1"]}}))
    )


@given(hosts_tomls())
def test_render_says_the_same(text: str) -> None:
    file = read(text, "f")
    assert read(render(file), "f") == file


def test_paths_are_moved_and_others_are_not() -> None:
    options: Table = {"ca": ["a", "/b"], "client": [["c", ""], "d"], "proxy": "p"}
    there: Table = {
        "ca": ["../_default/a", "/b"],
        "client": [["../_default/c", ""], "../_default/d"],
        "proxy": "p",
    }
    file = HostsFile("s", options, (Host("h", options),))
    assert moved(file, "../_default") == HostsFile("s", there, (Host("h", there),))


def test_certificate_files() -> None:
    assert certificate_options(["b.crt", "a.crt", "x.cert", "x.key", "y.cert", "z.key"]) == {
        "ca": ["a.crt", "b.crt"],
        "client": [["x.cert", "x.key"], ["y.cert", "y.cert"]],
    }
    assert certificate_options([]) == {}


USER = """\
# office
server = "https://reg.example" # the origin
ca = [
  "ca.crt",
]

# the mirror
[host."https://mirror.example"]
  capabilities = ["pull"]
[header]
  X-A = "b"
"""

SPLICED = """\
# office
#peili: server = "https://reg.example" # the origin
#peili: ca = [
#peili:   "ca.crt",
#peili: ]

# >>> peili
# Written by `peili configure`, taken out by `peili cleanup`. Changes between these marks are lost.
# Lines behind '#peili:' are yours. What they said is said here; cleanup brings them back.
server = "http://127.0.0.1:29020/fallback/v2"
capabilities = ["pull", "resolve"]
override_path = true
[host."http://127.0.0.1:29020"]
capabilities = ["pull"]
dial_timeout = "1s"
# <<< peili
# the mirror
[host."https://mirror.example"]
  capabilities = ["pull"]
#peili: [header]
#peili:   X-A = "b"
# >>> peili
[host."https://reg.example"]
capabilities = ["pull", "resolve", "push"]
ca = ["ca.crt"]
[host."https://reg.example".header]
X-A = "b"
# <<< peili
"""


def _spliced(text: str, mirror: Mirror = MIRROR) -> str:
    user = read(text, "f")
    wanted = mirror_first(user, mirror) if mirror.tags == "off" else with_fallback(REGISTRY, user, mirror)
    return splice(text, wanted, "f")


def test_the_spliced_file_word_for_word() -> None:
    assert _spliced(USER) == SPLICED


@given(hosts_tomls(), st.sampled_from([MIRROR, OFF]))
def test_splice_says_what_is_wanted_and_unsplice_gives_the_bytes_back(text: str, mirror: Mirror) -> None:
    user = read(text, "f")
    wanted = mirror_first(user, mirror) if mirror.tags == "off" else with_fallback(REGISTRY, user, mirror)
    spliced = splice(text, wanted, "f")
    assert render(read(spliced, "f")) == render(wanted)
    assert unsplice(spliced, "f") == text
    # Again: what was unspliced is spliced to the same.
    assert splice(unsplice(spliced, "f"), wanted, "f") == spliced


@given(hosts_tomls())
def test_the_tables_of_the_user_stay_as_they_are(text: str) -> None:
    assert KEPT not in _spliced(text, OFF)
    user = read(text, "f")
    kept = "".join(line[len(KEPT) :] for line in _spliced(text).splitlines(True) if line.startswith(KEPT))
    commented = read(kept, "f")
    assert (commented.server, commented.options) == (user.server, user.options)
    is_said_once = len(with_fallback(REGISTRY, user, MIRROR).hosts) == 1 + len(user.hosts)
    assert commented.hosts in ((), user.hosts[-1:]) if is_said_once else commented.hosts == ()


@pytest.mark.parametrize(
    "text",
    [
        'host = { "https://m1" = { capabilities = ["pull"] }, "https://m2" = {} }\n',
        'host."https://m1".ca = "a"\n[host."https://m1".header]\nx = "1"\n[host."https://m2"]\n',
        '[host]\n"https://m1" = { ca = "a" }\n"https://m2".ca = "b"\n',
        '[host."https://m1"]\n[host."https://m2"]\n[host]\n[host."https://m1".header]\nx = "1"\n',
        'header.x = "1"\nhost."https://m1" = {}\nhost."https://m2" = {}',
        '[header]\nx = "1"\n[host."https://m1"]\n[[list]]\na = 1\n[host."https://m2"]\n[[list]]\n',
        'server = """\\\n  https://s"""\n[host."https://m1"]\n[host.\'https://m2\']\n',
    ],
)
@pytest.mark.parametrize("mirror", [MIRROR, OFF])
def test_odd_forms_are_understood(text: str, mirror: Mirror) -> None:
    spliced = _spliced(text, mirror)
    assert [host.url for host in read(spliced, "f").hosts][:3] == [
        "http://127.0.0.1:29020",
        "https://m1",
        "https://m2",
    ]
    assert unsplice(spliced, "f") == text


# Some are only valid together, some never: what makes no valid file is left out.
_PIECES = (
    'server = "http://a"\n',
    'ca = "x"\n',
    'capabilities=["pull"]\n',
    'header.x = "1"\n',
    'host."http://a".ca = "q"\n',
    'host."http://b" = {}\n',
    'host = {"http://a"={}, "http://c"={ca="z"}}\n',
    "[host]\n",
    '"http://b" = {ca="1"}\n',
    '"http://c".ca = "1"\n',
    '[host."http://a"]\n',
    '[host."http://b"]\n',
    '[host."http://127.0.0.1:29020"]\n',
    '[host."http://c".header]\n',
    '[host."http://a".header]\n',
    'y = "1"\n',
    "[header]\n",
    "[[list]]\n",
    "[other.t]\n",
    '[[host."http://b".l]]\n',
    '[host."http://b".x.y]\n',
    'k = """\n[host.q]\n"""\n',
    'dial_timeout="1s"\n',
    "# c\n",
    "\n",
)


@given(st.lists(st.sampled_from(_PIECES), max_size=9).map("".join), st.sampled_from([MIRROR, OFF]))
def test_any_valid_file_can_be_spliced(text: str, mirror: Mirror) -> None:
    try:
        read(text, "f")
    except HostsFileInvalid:
        reject()
    spliced = _spliced(text, mirror)
    assert read(spliced, "f").hosts[0] == mirror.host()
    assert unsplice(spliced, "f") == text


def test_an_entry_of_ours_that_the_user_wrote_himself_comes_first_and_once() -> None:
    text = '[host."https://m"]\n' + render(HostsFile(None, {}, (MIRROR.host(),)))
    for mirror in (MIRROR, OFF):
        assert [host.url for host in read(_spliced(text, mirror), "f").hosts][:2] == [
            "http://127.0.0.1:29020",
            "https://m",
        ]


def test_without_tags_of_ours_the_top_of_the_file_stands_untouched() -> None:
    spliced = _spliced(USER, OFF)
    assert KEPT not in spliced
    assert spliced.startswith(USER[: USER.index("# the mirror")] + BEGIN)
    assert spliced.endswith(USER[USER.index("# the mirror") :])


def test_edits_outside_the_blocks_survive() -> None:
    edited = SPLICED.replace("# office", "# home").replace('["pull"]\n#peili', '["resolve"]\n#peili')
    edited += '[host."https://new.example"]\n'
    assert unsplice(edited, "f") == (
        USER.replace("# office", "# home").replace('["pull"]\n', '["resolve"]\n')
        + '[host."https://new.example"]\n'
    )


def test_edits_inside_a_block_do_not() -> None:
    assert unsplice(SPLICED.replace('dial_timeout = "1s"', 'dial_timeout = "9s"'), "f") == USER


def test_a_key_that_the_user_writes_anew_counts_and_his_old_one_is_gone() -> None:
    edited = 'server = "https://new.example"\n' + SPLICED + '[header]\nX-New = "1"\n'
    user = read(unsplice(edited, "f"), "f")
    assert user.server == "https://new.example"
    assert user.options == {"ca": ["ca.crt"], "header": {"X-New": "1"}}
    assert [host.url for host in user.hosts] == ["https://mirror.example"]


def test_text_that_is_added_behind_a_block_does_not_run_into_the_line_before_it() -> None:
    spliced = _spliced('server = "https://reg.example"')
    assert unsplice(spliced, "f") == 'server = "https://reg.example"'
    assert unsplice(spliced + "# more\n", "f") == 'server = "https://reg.example"\n# more\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"a = 1\n{BEGIN}\nb = 1\n", 2),
        (f"a = 1\n{END}\n", 2),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", 2),
        (f"{BEGIN}\n{END}\n{END}\n", 3),
    ],
)
def test_a_mark_without_its_partner_is_an_error(text: str, line: int) -> None:
    with pytest.raises(HostsFileInvalid, match="without its partner") as caught:
        unsplice(text, "f")
    assert caught.value.line == line


def test_marks_may_be_indented_or_end_in_a_carriage_return() -> None:
    assert unsplice(f"a = 1\r\n  {BEGIN}\r\nx\r\n{END} \r\nb = 1\r\n", "f") == "a = 1\r\nb = 1\r\n"


def test_line_numbers_of_a_file_with_blocks() -> None:
    broken = SPLICED + "nonsense\n"
    with pytest.raises(HostsFileInvalid) as caught:
        read(with_empty_blocks(broken, "f"), "f")
    assert caught.value.line == broken.count("\n")
