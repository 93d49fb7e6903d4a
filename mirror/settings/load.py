"""Which text wins for each setting, and what it means: flag, else environment variable, else default. Pure.

Rules
1. Nothing is half-read: a bad value of any setting ends it with a `SettingsError` that names the flag, and
   the variable where the value came from there.
2. An empty variable counts as not set. A variable of a repeatable setting is a list with commas; `\\,` is a
   comma inside a value.
3. A flag replaces the variable, also where both may hold several values.
4. An unknown variable with our prefix is a warning, since it may be a typing error; what Kubernetes injects
   for a Service called `peili…` is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, cast

from mirror.errors import SettingsError
from mirror.settings.table import ENVIRONMENT_PREFIX, TABLE, Command, Setting, settings_of
from mirror.settings.values import ValueInvalid

Value = TypeVar("Value")

# By field, as the command line gives them; None or an empty tuple: the flag was not given.
Flags = Mapping[str, str | tuple[str, ...] | None]

_ITEM = re.compile(r"((?:[^\\,]|\\.?)*)(?:,|\Z)", re.DOTALL)
_SERVICE_LINK = re.compile(
    r"PEILI_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class Origin(StrEnum):
    FLAG = "flag"
    ENVIRONMENT = "environment"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Values:
    """What every setting of one command came out as. Ask with the table's entries."""

    command: Command
    parsed: Mapping[str, tuple[object, ...]]
    origins: Mapping[str, Origin]
    warnings: list[str] = field(default_factory=list)

    def all(self, setting: Setting[Value]) -> tuple[Value, ...]:
        return cast(tuple[Value, ...], self.parsed[setting.name])

    def maybe(self, setting: Setting[Value]) -> Value | None:
        """None where it is not set and has no default."""
        found = self.all(setting)
        return found[0] if found else None

    def one(self, setting: Setting[Value]) -> Value:
        """For settings that have a default."""
        (found,) = self.all(setting)
        return found

    def is_given(self, setting: Setting[object]) -> bool:
        """By the user: not the default."""
        return self.origins[setting.name] is not Origin.DEFAULT

    def error(self, setting: Setting[object], message: str) -> SettingsError:
        """For a value that is well-formed and still cannot be used."""
        return SettingsError(setting.flag, f"{message}{_origin_note(setting, self.origins[setting.name])}")


def read(command: Command, flags: Flags, environment: Mapping[str, str]) -> Values:
    """Raises: SettingsError."""
    parsed: dict[str, tuple[object, ...]] = {}
    origins: dict[str, Origin] = {}
    warnings = _unknown_variables(environment)
    for setting in settings_of(command):
        origin, texts = _texts(setting, flags.get(setting.field), environment.get(setting.variable, ""))
        found = tuple(_parse(setting, text, origin) for text in texts)
        distinct = tuple(dict.fromkeys(found))
        if len(distinct) < len(found):
            warnings.append(
                f"{setting.flag}: the same value is given more than once{_origin_note(setting, origin)}"
            )
        parsed[setting.name] = distinct
        origins[setting.name] = origin
    return Values(command, parsed, origins, warnings)


def _texts(
    setting: Setting[object], flag: str | tuple[str, ...] | None, variable: str
) -> tuple[Origin, tuple[str, ...]]:
    given = (flag,) if isinstance(flag, str) else flag or ()
    if given:
        return Origin.FLAG, given
    listed = split_list(variable) if setting.is_repeatable else (variable.strip(),)
    given = tuple(text for text in listed if text)
    if given:
        return Origin.ENVIRONMENT, given
    return Origin.DEFAULT, () if setting.default is None else (setting.default,)


def _parse(setting: Setting[object], text: str, origin: Origin) -> object:
    note = _origin_note(setting, origin)
    if not text:
        raise SettingsError(setting.flag, f"needs a value, as in {setting.flag} {setting.example}")
    if origin is Origin.ENVIRONMENT and setting.is_repeatable and text.count("{") != text.count("}"):
        # A regular expression such as a{1,3}, cut in two: both halves would compile and mean something else.
        raise SettingsError(
            setting.flag, rf"{text!r} has an unmatched brace: write \, for a comma inside a value{note}"
        )
    try:
        return setting.parse(text)
    except ValueInvalid as exc:
        hint = ""
        if setting.is_repeatable and "," in text and origin is Origin.FLAG:
            hint = "; give the flag once for each value"
        elif setting.is_repeatable and origin is Origin.ENVIRONMENT:
            hint = r"; values are separated by commas, and \, is a comma inside a value"
        raise SettingsError(setting.flag, f"{exc}{hint}{note}") from exc


def _origin_note(setting: Setting[object], origin: Origin) -> str:
    return f" (from {setting.variable})" if origin is Origin.ENVIRONMENT else ""


def split_list(text: str) -> tuple[str, ...]:
    r"""The values of a comma-separated variable, without surrounding space. `\,` is a comma; any other
    backslash is itself, as regular expressions need it."""
    items = []
    position = 0
    while position < len(text):
        found = _ITEM.match(text, position)
        assert found is not None
        items.append(found[1].replace("\\,", ",").strip())
        position = found.end()
    return tuple(items)


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = {setting.variable for setting in TABLE}
    unknown = sorted(
        name
        for name in environment
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not _SERVICE_LINK.fullmatch(name)
    )
    return [
        f"{name} is no setting and is ignored; the nearest one is {_nearest(name, known)}" for name in unknown
    ]


def _nearest(name: str, known: set[str]) -> str:
    import difflib  # only where somebody mistyped

    return difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
