"""Which text wins for each setting, and what it means: flag, else environment variable, else default. Pure.

Rules
1. Nothing is half-read: a bad value of any setting ends it with a `SettingsError` that names the flag, and
   the variable where the value came from there.
2. An empty variable counts as not set. A variable of a repeatable setting is a list with commas; `\\,` is a
   comma inside a value. A setting's second variable counts where the first is not set.
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
from mirror.settings.setting import ENVIRONMENT_PREFIX, Command, Setting
from mirror.settings.table import TABLE, settings_of
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
    # The variable, of those settings that one decided.
    variables: Mapping[str, str]
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
        return SettingsError(setting.flag, f"{message}{_variable_note(self.variables.get(setting.name, ''))}")


def read(command: Command, flags: Flags, environment: Mapping[str, str]) -> Values:
    """Raises: SettingsError."""
    parsed: dict[str, tuple[object, ...]] = {}
    origins: dict[str, Origin] = {}
    variables: dict[str, str] = {}
    warnings = _unknown_variables(environment)
    for setting in settings_of(command):
        origin, variable, texts = _texts(setting, flags.get(setting.field), environment)
        found = tuple(_parse(setting, text, origin, variable) for text in texts)
        distinct = tuple(dict.fromkeys(found))
        if len(distinct) < len(found):
            warnings.append(
                f"{setting.flag}: the same value is given more than once{_variable_note(variable)}"
            )
        parsed[setting.name] = distinct
        origins[setting.name] = origin
        if variable:
            variables[setting.name] = variable
    return Values(command, parsed, origins, variables, warnings)


def given(command: Command, flags: Flags, environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """By field, the texts of those settings that a flag or a variable gives: what another process must be given to have
    the same. Unchecked."""
    found = {
        setting.field: _texts(setting, flags.get(setting.field), environment)
        for setting in settings_of(command)
    }
    return {field: texts for field, (origin, _, texts) in found.items() if origin is not Origin.DEFAULT}


def _texts(
    setting: Setting[object], flag: str | tuple[str, ...] | None, environment: Mapping[str, str]
) -> tuple[Origin, str, tuple[str, ...]]:
    """With the variable that the texts came from, empty where it was none."""
    given = (flag,) if isinstance(flag, str) else flag or ()
    if given:
        return Origin.FLAG, "", given
    for variable in setting.variables:
        told = environment.get(variable, "")
        listed = split_list(told) if setting.is_repeatable else (told.strip(),)
        given = tuple(text for text in listed if text)
        if given:
            return Origin.ENVIRONMENT, variable, given
    return Origin.DEFAULT, "", () if setting.default is None else (setting.default,)


def _parse(setting: Setting[object], text: str, origin: Origin, variable: str) -> object:
    note = _variable_note(variable)
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


def _variable_note(variable: str) -> str:
    return f" (from {variable})" if variable else ""


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
    known = {variable for setting in TABLE for variable in setting.variables}
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
