"""Reading the settings: from flags, the environment and a file, and what to say of those that are refused.

A command-line flag wins over an environment variable, that over a TOML file, that over the defaults in
``settings``. Anything unknown, of a wrong type or out of range is refused with the setting's name, where it
came from and what was wanted.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta

from leveret.router.settings import Section, Settings

# Kubernetes and container links set these for every neighbour of a service that is called "leveret".
_SERVICE_LINKS = re.compile(r"LEVERET_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
# The other subcommands read these, or give them to the commands they run.
_OTHERS = re.compile(r"LEVERET_(URL|API|MSG_\w+)")


class SettingsError(Exception):
    """One or more settings were refused; the text has a line for each."""


class Setting(NamedTuple):
    """One setting as declared above; ``key`` is ``name`` or ``section.name``."""

    key: str
    type: Any
    meta: Meta
    default: Any

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "LEVERET_" + self.key.replace(".", "__").upper()

    @property
    def wanted(self) -> str:
        """What values it takes, in words."""
        if self.extra("wanted") is not None:
            return str(self.extra("wanted"))
        if get_origin(self.type) is Literal:
            return "one of " + ", ".join(get_args(self.type))
        if get_origin(self.type) is tuple:
            return "a list of texts"
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "text, not empty" if self.meta.min_length else "text"
        above = f"{self.meta.ge} or more"
        return "a whole number, " + (above if self.meta.le is None else f"{self.meta.ge} to {self.meta.le}")

    def extra(self, name: str) -> Any:
        """An entry of the declaration's ``extra``, None when it has none."""
        return (self.meta.extra or {}).get(name)

    def convert(self, value: object, *, text: bool) -> Any:
        """The value in the declared type; from ``text``, numbers are parsed and lists split at commas.

        Raises ValueError, whose text tells nothing of a secret.
        """
        if text and get_origin(self.type) is tuple:
            value = [item.strip() for item in str(value).split(",") if item.strip()]
        try:
            converted = msgspec.convert(value, Annotated[self.type, self.meta], strict=not text)
        except msgspec.ValidationError:
            raise ValueError("not what was given" if self.extra("secret") else f"not {value!r}") from None
        parse: Callable[[Any], Any] | None = self.extra("parse")
        return converted if parse is None else parse(converted)


class Given(NamedTuple):
    """A value from outside; ``origin`` names the flag, variable or file, ``text`` says it is unparsed."""

    key: str
    value: object
    origin: str
    text: bool = True


def every_setting() -> dict[str, Setting]:
    """All settings by key, in the order of their declaration."""
    found = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.default, Section):
            members = {f"{field.name}.{each.name}": each for each in msgspec.structs.fields(field.type)}
        else:
            members = {field.name: field}
        for key, member in members.items():
            kind, meta = get_args(member.type)
            found[key] = Setting(key, kind, meta, member.default)
    return found


def load_settings(
    file: str | None = None, environ: Mapping[str, str] | None = None, flags: Sequence[Given] = ()
) -> Settings:
    """The settings that flags (a later one before an earlier), environment and file give, over the defaults.

    Raises SettingsError with a line for everything that is wrong.
    """
    known = every_setting()
    given = [*(_from_file(file, known) if file else ()), *_from_environment(environ or {}), *flags]
    values = {key: setting.default for key, setting in known.items()}
    errors = []
    for key, value, origin, text in given:
        if key not in known:
            errors.append(_unknown(key, origin, known))
            continue
        try:
            values[key] = known[key].convert(value, text=text)
        except ValueError as error:
            errors.append(f"{key} ({origin}): wanted {known[key].wanted}; {error}")
    low, high = values["server.outbox_low"], values["server.outbox_high"]
    if low > high:
        errors.append(f"server.outbox_low ({low}) must not be above server.outbox_high ({high})")
    if errors:
        raise SettingsError("\n".join(errors))
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return msgspec.convert(nested, Settings)


def _from_file(file: str, known: Mapping[str, Setting]) -> Iterator[Given]:
    """What a TOML file gives; SettingsError when it cannot be read or parsed."""
    try:
        with open(file, "rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from None
    sections = {key.partition(".")[0] for key in known if "." in key}
    for name, value in document.items():
        if isinstance(value, dict) and name not in known and (value or name in sections):
            for key, member in value.items():
                yield Given(f"{name}.{key}", member, file, text=False)
        else:
            yield Given(name, value, file, text=False)


def _from_environment(environ: Mapping[str, str]) -> Iterator[Given]:
    """What the variables that start with LEVERET_ give."""
    for variable, value in sorted(environ.items()):
        if _SERVICE_LINKS.fullmatch(variable) or _OTHERS.fullmatch(variable):
            continue
        if variable.startswith("LEVERET_"):
            key = variable.removeprefix("LEVERET_").replace("__", ".").lower()
            yield Given(key, value, variable)


def _unknown(key: str, origin: str, known: Mapping[str, Setting]) -> str:
    """What to say of a setting that does not exist: its origin and the nearest one that does."""
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    spelled = known[nearest].variable if origin.startswith("LEVERET_") else nearest
    return f"{key} ({origin}): there is no such setting; the nearest is {spelled}"
