"""The settings of an operator: type, limits, default and description of each.

Responsible for their values. Not for their sources (see ``configuration``), nor for behaviour: ``Settings``
is passed down and never changes. Durations are milliseconds and sizes are bytes unless a description says
otherwise.
"""

import math
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

MEMORY = ":memory:"  # the value of `data` that stores nothing
SECRETS = {"default_pass", "url", "databases"}  # settings that no log shows
SIZE_MAX = 2**31 - 1
MEMORY_MIN = 1 << 20  # bytes of a watermark; a smaller value above 1 must be a mistake


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT`` into host (without brackets) and port; port 0 means any free
    one.

    Raises ValueError for any other text.
    """
    match = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^\[\]:\s]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT (an IPv6 host in brackets, a port up to 65535)")
    return match[1] or match[2], int(match[3])


def _addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses; an empty result if the only value is "none". Raises ValueError for a malformed
    one.
    """
    if values == ("none",):
        return ()
    for value in values:
        parse_address(value)
    return values


def _hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return host names in lower case. Raises ValueError for one with a scheme, port or path."""
    for value in values:
        if not re.fullmatch(r"\*|[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", value):
            raise ValueError(f"{value!r} is not the name or address of a host alone")
    return tuple(map(str.lower, values))


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return origins in lower case, as browsers send them. Raises ValueError for any other text."""
    for value in values:
        if not re.fullmatch(r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s@]+", value):
            raise ValueError(f"{value!r} is not SCHEME://HOST or SCHEME://HOST:PORT, without a path")
    return tuple(map(str.lower, values))


def _watermark(value: float) -> float:
    """Return a share of the memory, or a size. Raises ValueError for any other value."""
    if not math.isfinite(value) or 1 < value < MEMORY_MIN:
        raise ValueError(f"not {value!r}")
    return value


def _postgresql_urls(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the URLs of databases. Raises ValueError for any other text.

    A URL may name several hosts, which commas separate: text that does not begin with a scheme belongs to the
    URL before it.
    """
    urls: list[str] = []
    for value in values:
        if re.match(r"postgres(ql)?://", value):
            urls.append(value)
        elif urls and "://" not in value:
            urls[-1] += f",{value}"
        else:
            raise ValueError("not what was given")
    return tuple(urls)


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the settings file."""

    def __repr__(self) -> str:
        pairs = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{name}={'***' if name in SECRETS else repr(value)}" for name, value in pairs)
        return f"{type(self).__name__}({', '.join(shown)})"


def _places(description: str) -> Meta:
    """Declare a setting with addresses to listen on."""
    return Meta(
        description=description, extra={"wanted": "a list of HOST:PORT, or none", "parse": _addresses}
    )


class Listen(Section, frozen=True):
    """Addresses to listen on; ports below 1024 need privileges that a broker should not have."""

    amqp: Annotated[
        tuple[str, ...], _places("Addresses for AMQP 0-9-1; port 0 picks a free one, `none` turns it off.")
    ] = ("127.0.0.1:5672",)
    stomp: Annotated[tuple[str, ...], _places("Addresses for STOMP, usually with port 61613.")] = ()
    http: Annotated[
        tuple[str, ...],
        _places("Addresses for HTTP and for WebSocket; port 0 picks a free one, `none` turns it off."),
    ] = ("127.0.0.1:15672",)
    web_stomp: Annotated[
        tuple[str, ...], _places("Addresses for STOMP over WebSocket alone, usually with port 15674.")
    ] = ()
    amqps: Annotated[
        tuple[str, ...], _places("Addresses for AMQP 0-9-1 over TLS, usually with port 5671.")
    ] = ()
    stomps: Annotated[tuple[str, ...], _places("Addresses for STOMP over TLS, usually with port 61614.")] = ()
    https: Annotated[
        tuple[str, ...],
        _places("Addresses for HTTP and for WebSocket over TLS, usually with port 15671."),
    ] = ()
    web_stomps: Annotated[
        tuple[str, ...],
        _places("Addresses for STOMP over WebSocket alone over TLS, usually with port 15673."),
    ] = ()


class Tls(Section, frozen=True):
    """TLS, 1.2 or newer: certificates of the listeners, and requirements for those of clients."""

    certificate: Annotated[
        str, Meta(description="File with the certificate and its chain to the root, in PEM.")
    ] = ""
    key: Annotated[
        str, Meta(description="File with the certificate's private key, if it is another file.")
    ] = ""
    client_ca: Annotated[
        str,
        Meta(
            description="File with the root certificates for clients;"
            " without it no client certificate is requested."
        ),
    ] = ""
    require_client_certificate: Annotated[
        bool, Meta(description="Whether clients without a certificate are refused.")
    ] = False
    login_from: Annotated[
        Literal["none", "distinguished_name", "common_name"],
        Meta(description="Field of a client's certificate that holds its user name (EXTERNAL, STOMP)."),
    ] = "none"
    handshake_timeout: Annotated[
        int, Meta(ge=1, description="How long the handshake of TLS may take, in ms.")
    ] = 10000


class Log(Section, frozen=True):
    """Logging; log lines are written to standard error."""

    format: Annotated[
        Literal["console", "json"], Meta(description="Format: text for people, or one JSON object a line.")
    ] = "console"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe level that is logged.")
    ] = "info"


class Amqp(Section, frozen=True):
    """Settings of AMQP: the limits of clients, and the values that the broker offers them."""

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
        Meta(
            ge=0,
            description="Largest number of connections; a further one replaces one that has not logged in."
            " 0: only the limit on open files applies.",
        ),
    ] = 0
    product: Annotated[
        str, Meta(min_length=1, description="Product announced to clients, some of which adapt to it.")
    ] = "RabbitMQ"
    version: Annotated[
        str,
        Meta(
            pattern=r"^\d+\.\d+\.\d+", description="Version announced to clients.", extra={"wanted": "X.Y.Z"}
        ),
    ] = "3.13.7"


class Auth(Section, frozen=True):
    """Storage of passwords, and limits of login attempts."""

    password_hash: Annotated[
        Literal["scrypt", "sha256", "sha512"],
        Meta(description="How new passwords are hashed; RabbitMQ can take over the last two only."),
    ] = "scrypt"
    failed_logins: Annotated[
        int,
        Meta(
            ge=0,
            description="Failed logins of a user from one address after which further logins wait;"
            " 0 is no limit.",
        ),
    ] = 20
    failed_logins_per_minute: Annotated[
        int,
        Meta(ge=1, description="After that, number of passwords of that user that are checked each minute."),
    ] = 60


class Stomp(Section, frozen=True):
    """The default login and virtual host of STOMP clients, and the kind of their WebSocket messages."""

    default_user: Annotated[
        str, Meta(description="User of clients that send no login; if it is empty, they are refused.")
    ] = "guest"
    default_pass: Annotated[
        str, Meta(description="Password of `stomp.default_user`.", extra={"secret": True})
    ] = "guest"
    default_vhost: Annotated[
        str, Meta(min_length=1, description="Virtual host of clients that name none.")
    ] = "/"
    web_messages: Annotated[
        Literal["text", "binary"],
        Meta(description="Kind of the WebSocket messages that are sent at `listen.web_stomp`."),
    ] = "text"


class Http(Section, frozen=True):
    """Access and limits of HTTP clients."""

    max_connections: Annotated[
        int,
        Meta(
            ge=0,
            description="Largest number of HTTP connections, WebSockets not counted; a further one replaces"
            " an idle one. 0 is no limit.",
        ),
    ] = 1000
    max_header_size: Annotated[
        int, Meta(ge=1024, le=SIZE_MAX, description="Largest head of a request, in bytes.")
    ] = 16384
    max_body_size: Annotated[
        int, Meta(ge=0, le=SIZE_MAX, description="Largest body of a request, in bytes.")
    ] = 20000000
    max_bodies_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of memory for the bodies of all requests; one address, and one user, may have"
            " half of them. 0 is no limit.",
        ),
    ] = 134217728
    max_responses_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of memory for all responses of more than 64 KiB; one address may have half of"
            " them. Further ones wait. 0 is no limit.",
        ),
    ] = 134217728
    request_timeout: Annotated[
        int,
        Meta(
            ge=1,
            description="How long a request may take to arrive, and its client to accept each part of the"
            " response, in ms.",
        ),
    ] = 30000
    idle_timeout: Annotated[
        int, Meta(ge=1, description="How long a connection may wait for the next request, in ms.")
    ] = 60000
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Names by which pages and proxies may reach a loopback address, besides localhost;"
            " `*` is any.",
            extra={"wanted": "a list of host names", "parse": _hosts},
        ),
    ] = ()
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins of pages that may connect, besides the broker's own and those of this"
            " machine; `*` is any.",
            extra={"wanted": "a list of origins", "parse": _origins},
        ),
    ] = ()


class Management(Section, frozen=True):
    """Content of the management API."""

    metrics: Annotated[
        Literal["open", "login", "off"],
        Meta(description="Who may read `/metrics`: all clients, clients that log in, or none."),
    ] = "open"
    sample_interval: Annotated[
        int,
        Meta(ge=100, le=3600000, description="How often counters are sampled to compute rates, in ms."),
    ] = 5000


class Websocket(Section, frozen=True):
    """Limits of clients over WebSocket."""

    max_message_size: Annotated[
        int, Meta(ge=125, le=SIZE_MAX, description="Largest message from a client, inflated, in bytes.")
    ] = 33554432
    ping_interval: Annotated[
        int,
        Meta(ge=0, description="Silence after which a client is pinged, in ms; 0 is never."),
    ] = 30000
    ping_timeout: Annotated[
        int,
        Meta(
            ge=1, description="How long a client may take to answer a ping before it is disconnected, in ms."
        ),
    ] = 20000
    send_timeout: Annotated[
        int,
        Meta(
            ge=0,
            description="How long a client may leave sent bytes unread, in ms; 0 is for ever.",
        ),
    ] = 60000
    idle_timeout: Annotated[
        int,
        Meta(ge=0, description="How long both sides may send no message, in ms; 0 is for ever."),
    ] = 0
    compression: Annotated[
        bool, Meta(description="Whether messages to and from clients may be compressed.")
    ] = False


class QueueSettings(Section, frozen=True):
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
        int,
        Meta(ge=1, description="How often channels are searched for deliveries that have timed out, in ms."),
    ] = 60000


class StoreSettings(Section, frozen=True):
    """Storage of durable queues and their messages, on disk or in a PostgreSQL."""

    url: Annotated[
        str,
        Meta(
            pattern="^$|^postgres(ql)?://",
            description="URL of the PostgreSQL that holds everything instead of the data directory.",
            extra={"secret": True, "wanted": "a URL that begins with postgresql://"},
        ),
    ] = ""
    schema: Annotated[
        str,
        Meta(
            pattern="^[a-z_][a-z0-9_]{0,39}$",
            description="Schema in the PostgreSQL; the first start creates it.",
            extra={"wanted": "a name of lower-case letters, digits and underscores"},
        ),
    ] = "leveret"
    sync: Annotated[
        Literal["always", "interval", "never"],
        Meta(
            description="Whether a confirm waits for the disk (`always`), or only for the operating system, "
            "which is then synced at intervals (`interval`) or writes when it chooses (`never`)."
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
            description="Bytes of memory for ready messages; the others are on disk only."
            " 0 is a tenth of the memory that the process may use, at most 134217728.",
        ),
    ] = 0


def _advertised(value: str) -> str:
    """Return an address, or "". Raises ValueError for any other text, and for port 0."""
    if value and not parse_address(value)[1]:
        raise ValueError(f"{value!r} has port 0, which no other broker can connect to")
    return value


class ClusterSettings(Section, frozen=True):
    """Brokers over one PostgreSQL: one is active, the others stand by."""

    node: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9._-]{0,36}$",
            description="Name of this broker, different from those of all others; empty: the host's name.",
            extra={"wanted": "at most 36 letters, digits, dots, hyphens and underscores"},
        ),
    ] = ""
    advertise: Annotated[
        str,
        Meta(
            description="Address at which other brokers reach a listener of this one in `listen.amqp`,"
            " to relay clients to it; empty: no clients are relayed to it.",
            extra={"wanted": "HOST:PORT", "parse": _advertised},
        ),
    ] = ""
    takeover_after: Annotated[
        int,
        Meta(
            ge=2000,
            le=600000,
            description="Time without a commit of the active broker after which another one takes over,"
            " in ms; the same at all brokers.",
        ),
    ] = 3000
    durability: Annotated[
        Literal["quorum", "local"],
        Meta(
            description="What a confirm promises with `store.url`: the message is on the primary and its"
            " synchronous standbys (`quorum`), or on the primary (`local`)."
        ),
    ] = "quorum"


class AlarmSettings(Section, frozen=True):
    """Limits of memory and disk space at which publishers are blocked."""

    memory_high_watermark: Annotated[
        float,
        Meta(
            ge=0,
            description="Memory above which publishers are blocked: a share of the memory that the process"
            " may use, or a size.",
            extra={"wanted": "a share from 0 to 1, or bytes, a MiB at least", "parse": _watermark},
        ),
    ] = 0.6
    disk_free_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Free space for the data directory below which publishers are blocked, in bytes;"
            " 0 is none.",
        ),
    ] = 50000000


class OutboxSettings(Section, frozen=True):
    """Transactional outboxes: tables of PostgreSQL whose rows the broker publishes."""

    databases: Annotated[
        tuple[str, ...],
        Meta(
            description="Databases with an outbox, created by `leveret outbox install`.",
            extra={"wanted": "a list of postgresql:// URLs", "parse": _postgresql_urls, "secret": True},
        ),
    ] = ()
    user: Annotated[str, Meta(description="User who publishes the rows; if it is empty, `default_user`.")] = (
        ""
    )
    poll_interval: Annotated[
        int,
        Meta(ge=10, le=3600000, description="How often rows are looked for without a notification, in ms."),
    ] = 1000
    batch: Annotated[int, Meta(ge=1, le=10000, description="Most rows that are read at a time.")] = 500


class Server(Section, frozen=True):
    """Buffers, limits and timeouts of connections."""

    read_size: Annotated[
        int,
        Meta(
            ge=4096,
            le=SIZE_MAX,
            description="Most bytes read from one connection at a time; half as many for small messages,"
            " up to four times as many for large ones.",
        ),
    ] = 131072
    outbox_high: Annotated[
        int,
        Meta(ge=1, le=SIZE_MAX, description="Unsent bytes of a connection at which deliveries to it stop."),
    ] = 1048576
    outbox_low: Annotated[
        int,
        Meta(ge=0, le=SIZE_MAX, description="Unsent bytes at which deliveries to it start again."),
    ] = 262144
    send_timeout: Annotated[
        int,
        Meta(
            ge=0,
            description="How long a client may leave sent bytes unread, in ms; 0 is for ever."
            " WebSockets have a setting of their own.",
        ),
    ] = 60000
    max_incoming_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of messages and transactions that clients have begun to send, over all"
            " connections; one user, or one address before the login, may have half of them. 0 is no limit.",
        ),
    ] = 268435456
    shutdown_timeout: Annotated[
        int, Meta(ge=0, description="How long clients may take to close when the broker stops, in ms.")
    ] = 3000


def _directory(value: str) -> str:
    """Return a path. Raises ValueError for a URL of a PostgreSQL, which would be logged with its password."""
    if re.match(r"postgres(ql)?:/", value):
        raise ValueError("a PostgreSQL is named with --store (store.url)")
    return value


class Settings(Section, frozen=True):
    """All settings."""

    data: Annotated[
        str,
        Meta(
            min_length=1,
            description="Data directory; `:memory:` stores nothing on disk.",
            extra={"wanted": "a directory, or :memory:", "parse": _directory},
        ),
    ] = "./leveret-data"
    definitions: Annotated[
        str, Meta(description="File of definitions (users, exchanges, queues, ...) to import at the start.")
    ] = ""
    default_user: Annotated[
        str, Meta(min_length=1, max_length=255, description="User that is created when there is none yet.")
    ] = "guest"
    default_pass: Annotated[
        str, Meta(min_length=1, description="Password of `default_user`.", extra={"secret": True})
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
    auth: Auth = Auth()
    amqp: Amqp = Amqp()
    stomp: Stomp = Stomp()
    http: Http = Http()
    management: Management = Management()
    websocket: Websocket = Websocket()
    queue: QueueSettings = QueueSettings()
    store: StoreSettings = StoreSettings()
    cluster: ClusterSettings = ClusterSettings()
    alarms: AlarmSettings = AlarmSettings()
    outbox: OutboxSettings = OutboxSettings()
    server: Server = Server()

    @property
    def storage(self) -> str:
        """The place of everything that is stored, for people: without the password of a database."""
        return f"PostgreSQL, schema {self.store.schema}" if self.store.url else self.data
