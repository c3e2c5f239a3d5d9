"""What an operator can set, and the one place that reads it; long, as every setting is declared here.

A command-line flag wins over an environment variable, that over a TOML file, that over the defaults below.
Anything unknown, of a wrong type or out of range is refused with the setting's name, where it came from and
what was wanted. Owns no behaviour: ``Settings`` is handed down and never changes.

Durations are milliseconds and sizes are bytes unless a description says otherwise.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

MEMORY = ":memory:"  # the value of `data` that keeps nothing
SIZE_MAX = 2**31 - 1

# Kubernetes and container links set these for every neighbour of a service that is called "leveret".
_SERVICE_LINKS = re.compile(r"LEVERET_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


class SettingsError(Exception):
    """One or more settings were refused; the text has a line for each."""


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPv6]:PORT`` as host (without brackets) and port; port 0 stands for any free one.

    Raises ValueError when it is neither.
    """
    match = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^\[\]:\s]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT (an IPv6 host in brackets, a port up to 65535)")
    return match[1] or match[2], int(match[3])


def _addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses as they are, none of them for a lone "none"; ValueError when one is malformed."""
    if values == ("none",):
        return ()
    for value in values:
        parse_address(value)
    return values


def _finite(value: float) -> float:
    """A number as it is; ValueError for one that TOML and Python have and no machine."""
    if not math.isfinite(value):
        raise ValueError(f"not {value!r}")
    return value


class _Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the settings file."""

    def __repr__(self) -> str:
        pairs = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{name}={'***' if name == 'default_pass' else repr(value)}" for name, value in pairs)
        return f"{type(self).__name__}({', '.join(shown)})"


class Listen(_Section, frozen=True):
    """Where the broker listens; ports below 1024 need privileges that a broker should not have."""

    amqp: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses for AMQP 0-9-1; port 0 picks a free one, `none` turns it off.",
            extra={"wanted": "a list of HOST:PORT, or none", "parse": _addresses},
        ),
    ] = ("127.0.0.1:5672",)
    stomp: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses for STOMP; there are none by default.",
            extra={"wanted": "a list of HOST:PORT, or none", "parse": _addresses},
        ),
    ] = ()
    http: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses for HTTP and for WebSocket; port 0 picks a free one, `none` turns it off.",
            extra={"wanted": "a list of HOST:PORT, or none", "parse": _addresses},
        ),
    ] = ("127.0.0.1:15672",)
    amqps: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses for AMQP 0-9-1 over TLS, usually with port 5671.",
            extra={"wanted": "a list of HOST:PORT, or none", "parse": _addresses},
        ),
    ] = ()
    https: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses for HTTP and for WebSocket over TLS, usually with port 15671.",
            extra={"wanted": "a list of HOST:PORT, or none", "parse": _addresses},
        ),
    ] = ()


class Tls(_Section, frozen=True):
    """What the listeners with TLS, 1.2 or newer, show to clients and ask them for."""

    certificate: Annotated[
        str, Meta(description="File with the certificate, and those that lead to its root, in PEM.")
    ] = ""
    key: Annotated[str, Meta(description="File with its private key, if that is another one.")] = ""
    client_ca: Annotated[
        str, Meta(description="File with the roots of clients' certificates; without it none are asked for.")
    ] = ""
    require_client_certificate: Annotated[
        bool, Meta(description="Whether clients without a certificate are turned away.")
    ] = False
    login_from: Annotated[
        Literal["none", "distinguished_name", "common_name"],
        Meta(description="What of a client's certificate is the user name for the login mechanism EXTERNAL."),
    ] = "none"
    handshake_timeout: Annotated[
        int, Meta(ge=1, description="How long the handshake of TLS may take, in ms.")
    ] = 10000


class Log(_Section, frozen=True):
    """What is logged; log lines go to standard error."""

    format: Annotated[
        Literal["console", "json"], Meta(description="For people, or one JSON object a line.")
    ] = "console"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe level that is logged.")
    ] = "info"


class Amqp(_Section, frozen=True):
    """What is offered to AMQP clients when they connect, and the limits they are held to."""

    heartbeat: Annotated[
        int,
        Meta(ge=0, le=65535, description="Heartbeat suggested to clients, in seconds; 0 suggests none."),
    ] = 60
    frame_max: Annotated[
        int, Meta(ge=4096, le=SIZE_MAX, description="Largest frame, in bytes; a client may ask for less.")
    ] = 131072
    channel_max: Annotated[int, Meta(ge=1, le=65535, description="Most channels of one connection.")] = 2047
    handshake_timeout: Annotated[
        int, Meta(ge=1, description="Time from connecting to an opened virtual host, in ms.")
    ] = 10000
    initial_frame_max: Annotated[
        int, Meta(ge=4096, le=SIZE_MAX, description="Largest frame before the login, in bytes.")
    ] = 8192
    max_message_size: Annotated[
        int, Meta(ge=1, le=536870912, description="Largest message body, in bytes.")
    ] = 16777216
    max_connections: Annotated[
        int,
        Meta(ge=0, description="Most connections at a time; 0 leaves it to the limit on open files."),
    ] = 0
    product: Annotated[
        str, Meta(min_length=1, description="Product announced to clients, some of which adapt to it.")
    ] = "RabbitMQ"
    version: Annotated[
        str,
        Meta(pattern=r"^\d+\.\d+\.\d+", description="Version announced with it.", extra={"wanted": "X.Y.Z"}),
    ] = "3.13.7"


class Stomp(_Section, frozen=True):
    """Who STOMP clients are that do not say so, and where they are."""

    default_user: Annotated[
        str, Meta(description="User of clients that send no login; without one they are refused.")
    ] = ""
    default_pass: Annotated[str, Meta(description="Password of that user.", extra={"secret": True})] = ""
    default_vhost: Annotated[
        str, Meta(min_length=1, description="Virtual host of clients that name none.")
    ] = "/"


class Http(_Section, frozen=True):
    """What HTTP clients may do, and who may be one."""

    max_connections: Annotated[
        int,
        Meta(ge=0, description="Most HTTP connections at a time, WebSockets not counted; 0 is no limit."),
    ] = 1000
    max_header_size: Annotated[
        int, Meta(ge=1024, le=SIZE_MAX, description="Largest head of a request, in bytes.")
    ] = 16384
    max_body_size: Annotated[
        int, Meta(ge=0, le=SIZE_MAX, description="Largest body of a request, in bytes.")
    ] = 20000000
    request_timeout: Annotated[
        int,
        Meta(
            ge=1,
            description="How long a request may take to arrive, and to take each piece of its answer, in ms.",
        ),
    ] = 30000
    idle_timeout: Annotated[
        int, Meta(ge=1, description="How long a connection may wait for the next request, in ms.")
    ] = 60000
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Names by which pages and proxies may reach a loopback address, besides localhost;"
            " `*` is any."
        ),
    ] = ()
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins of pages that may connect, besides the broker's own and those of this"
            " machine; `*` is any."
        ),
    ] = ()


class Websocket(_Section, frozen=True):
    """What clients over WebSocket are held to."""

    max_message_size: Annotated[
        int, Meta(ge=125, le=SIZE_MAX, description="Largest message from a client, inflated, in bytes.")
    ] = 33554432
    ping_interval: Annotated[
        int,
        Meta(
            ge=0, description="Silence after which a client is asked whether it is there, in ms; 0 is never."
        ),
    ] = 30000
    ping_timeout: Annotated[
        int, Meta(ge=1, description="How long it may take to answer before it is let go, in ms.")
    ] = 20000
    send_timeout: Annotated[
        int,
        Meta(
            ge=0,
            description="How long a client may read nothing of what is sent to it, in ms; 0 is for ever.",
        ),
    ] = 60000
    idle_timeout: Annotated[
        int,
        Meta(ge=0, description="How long neither side may send a message, in ms; 0 is for ever."),
    ] = 0
    compression: Annotated[
        bool, Meta(description="Whether clients may compress messages, and get compressed ones.")
    ] = False


class Queue(_Section, frozen=True):
    """Behaviour of queues that their arguments and policies leave open."""

    consumer_timeout: Annotated[
        int,
        Meta(ge=0, description="How long a delivery may stay unacknowledged, in ms; 0 is for ever."),
    ] = 1800000
    default_delivery_limit: Annotated[
        int,
        Meta(ge=-1, description="Delivery limit of quorum queues that set none; -1 is no limit."),
    ] = 20
    channel_tick: Annotated[
        int, Meta(ge=1, description="How often channels look for deliveries that have timed out, in ms.")
    ] = 60000


class Store(_Section, frozen=True):
    """How durable queues and their messages are kept on disk."""

    sync: Annotated[
        Literal["always", "interval", "never"],
        Meta(
            description="Whether a confirm waits for the disk (`always`), or only for the operating system, "
            "which is told to write to the disk every so often (`interval`) or when it likes (`never`)."
        ),
    ] = "always"
    sync_interval: Annotated[
        int,
        Meta(ge=1, description="With `interval`: how long written messages may wait for the disk, in ms."),
    ] = 200
    journal_size: Annotated[
        int, Meta(ge=65536, le=SIZE_MAX, description="Size of a journal file, in bytes.")
    ] = 16777216
    memory: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of memory that ready messages may take up; more are on disk only."
            " 0 is a tenth of all there is, at most 134217728.",
        ),
    ] = 0


class Alarms(_Section, frozen=True):
    """When publishers are blocked because the machine runs short."""

    memory_high_watermark: Annotated[
        float,
        Meta(
            ge=0,
            description="Memory above which publishers are blocked: a share of all there is, or a size.",
            extra={"wanted": "a share from 0 to 1, or bytes", "parse": _finite},
        ),
    ] = 0.6
    disk_free_limit: Annotated[
        int,
        Meta(
            ge=0, description="Free space for the data directory below which they are, in bytes; 0 is none."
        ),
    ] = 50000000


class Server(_Section, frozen=True):
    """How connections are served."""

    read_size: Annotated[
        int,
        Meta(
            ge=4096,
            le=SIZE_MAX,
            description="Most bytes taken from one connection at a time; of small messages half as many.",
        ),
    ] = 131072
    outbox_high: Annotated[
        int,
        Meta(ge=1, le=SIZE_MAX, description="Unsent bytes of a connection at which it gets no deliveries."),
    ] = 1048576
    outbox_low: Annotated[
        int,
        Meta(ge=0, le=SIZE_MAX, description="Unsent bytes at which deliveries to it start again."),
    ] = 262144
    shutdown_timeout: Annotated[
        int, Meta(ge=0, description="How long clients may take to close when the broker stops, in ms.")
    ] = 3000


class Settings(_Section, frozen=True):
    """Everything an operator can set."""

    data: Annotated[
        str, Meta(min_length=1, description="Directory of everything that is kept; `:memory:` keeps nothing.")
    ] = "./leveret-data"
    definitions: Annotated[
        str, Meta(description="File of definitions (users, exchanges, queues, ...) to import at the start.")
    ] = ""
    default_user: Annotated[
        str, Meta(min_length=1, max_length=255, description="User that is created when there is none yet.")
    ] = "guest"
    default_pass: Annotated[
        str, Meta(min_length=1, description="Password of that user.", extra={"secret": True})
    ] = "guest"
    default_vhost: Annotated[
        str,
        Meta(
            min_length=1, max_length=255, description="Virtual host that is created when there is none yet."
        ),
    ] = "/"
    loopback_users: Annotated[
        tuple[str, ...], Meta(description="Users that may connect from this machine only.")
    ] = ("guest",)
    listen: Listen = Listen()
    tls: Tls = Tls()
    log: Log = Log()
    amqp: Amqp = Amqp()
    stomp: Stomp = Stomp()
    http: Http = Http()
    websocket: Websocket = Websocket()
    queue: Queue = Queue()
    store: Store = Store()
    alarms: Alarms = Alarms()
    server: Server = Server()


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
        if isinstance(field.default, _Section):
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
        if variable.startswith("LEVERET_") and not _SERVICE_LINKS.fullmatch(variable):
            key = variable.removeprefix("LEVERET_").replace("__", ".").lower()
            yield Given(key, value, variable)


def _unknown(key: str, origin: str, known: Mapping[str, Setting]) -> str:
    """What to say of a setting that does not exist: its origin and the nearest one that does."""
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    spelled = known[nearest].variable if origin.startswith("LEVERET_") else nearest
    return f"{key} ({origin}): there is no such setting; the nearest is {spelled}"
