"""Loading of settings from flags, environment and file, and the errors for refused settings.

A command-line flag wins over an environment variable, which wins over a TOML file, which wins over the
defaults in ``settings``. A setting that is unknown, of a wrong type or out of range is refused; the error has
its name, its source and the expected values.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta

from leveret.router.settings import Section, Settings

# Kubernetes and container links set these for the containers beside a service that is called "leveret".
_SERVICE_LINKS = re.compile(r"LEVERET_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
# The other subcommands read these, or set them for the commands that they run.
_OTHERS = re.compile(r"LEVERET_(URL|API|MSG_\w+)")


class SettingsError(Exception):
    """One or more settings were refused; the text has a line for each."""


class Setting(NamedTuple):
    """A setting as declared in ``settings``; ``key`` is ``name`` or ``section.name``."""

    key: str
    type: Any
    meta: Meta
    default: Any

    @property
    def variable(self) -> str:
        """Return the name of the environment variable that sets it."""
        return "LEVERET_" + self.key.replace(".", "__").upper()

    @property
    def wanted(self) -> str:
        """Describe the accepted values."""
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
        """Return an entry of the declaration's ``extra``, None if there is none."""
        return (self.meta.extra or {}).get(name)

    def convert(self, value: object, *, text: bool) -> Any:
        """Convert a value to the declared type; from ``text``, numbers are parsed and lists split at commas.

        Raises ValueError, whose text never holds a secret.
        """
        if text and get_origin(self.type) is tuple:
            value = [item.strip() for item in str(value).split(",") if item.strip()]
        try:
            converted = msgspec.convert(value, Annotated[self.type, self.meta], strict=not text)
        except msgspec.ValidationError:
            raise ValueError("not what was given" if self.extra("secret") else f"not {value!r}") from None
        for text_value in converted if isinstance(converted, tuple) else (converted,):
            if isinstance(text_value, str) and "\0" in text_value:
                raise ValueError("not one with a NUL character")
        parse: Callable[[Any], Any] | None = self.extra("parse")
        return converted if parse is None else parse(converted)


class GivenSetting(NamedTuple):
    """A value from outside; ``origin`` is the flag, variable or file, ``text`` is True for an unparsed
    value.
    """

    key: str
    value: object
    origin: str
    text: bool = True


def every_setting() -> dict[str, Setting]:
    """Return all settings by key, in the order of their declaration."""
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
    file: str | None = None, environ: Mapping[str, str] | None = None, flags: Sequence[GivenSetting] = ()
) -> Settings:
    """Return the settings: flags (a later one wins), then environment, then file, then the defaults.

    Raises SettingsError with a line for each error.
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
    errors += [
        f"{key} needs --store (store.url): brokers of a cluster share a PostgreSQL"
        for key in ("cluster.node", "cluster.advertise")
        if values[key] and not values["store.url"]
    ]
    if errors:
        raise SettingsError("\n".join(errors))
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return msgspec.convert(nested, Settings)


def _from_file(file: str, known: Mapping[str, Setting]) -> Iterator[GivenSetting]:
    """Yield the values of a TOML file. Raises SettingsError if it cannot be read or parsed."""
    import tomllib  # noqa: PLC0415 - not needed for most starts

    try:
        with open(file, "rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{file} is not valid here: its values are nested too deeply") from None
    sections = {key.partition(".")[0] for key in known if "." in key}
    for name, value in document.items():
        if isinstance(value, dict) and name not in known and (value or name in sections):
            for key, member in value.items():
                yield GivenSetting(f"{name}.{key}", member, file, text=False)
        else:
            yield GivenSetting(name, value, file, text=False)


def _from_environment(environ: Mapping[str, str]) -> Iterator[GivenSetting]:
    """Yield the values of the variables that start with LEVERET_."""
    for variable, value in sorted(environ.items()):
        if _SERVICE_LINKS.fullmatch(variable) or _OTHERS.fullmatch(variable):
            continue
        if variable.startswith("LEVERET_"):
            key = variable.removeprefix("LEVERET_").replace("__", ".").lower()
            yield GivenSetting(key, value, variable)


def _unknown(key: str, origin: str, known: Mapping[str, Setting]) -> str:
    """Return the error for an unknown setting, with its source and the nearest known setting."""
    import difflib  # noqa: PLC0415 - not needed for most starts, as ``tomllib``

    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    spelled = known[nearest].variable if origin.startswith("LEVERET_") else nearest
    return f"{key} ({origin}): there is no such setting; the nearest is {spelled}"
