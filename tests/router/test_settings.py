import json
from pathlib import Path

import pytest

from leveret.router.configuration import GivenSetting, SettingsError, every_setting, load_settings
from leveret.router.settings import Listen, Settings, parse_address


@pytest.fixture
def settings_file(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "leveret.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def refusal(*args, **kwargs) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(*args, **kwargs)
    return str(caught.value)


def test_defaults_need_neither_file_nor_environment():
    settings = load_settings()
    assert settings == Settings()
    assert settings.listen.amqp == ("127.0.0.1:5672",)
    assert settings.loopback_users == ("guest",)


def test_flag_wins_over_environment_over_file_over_default(settings_file):
    file = settings_file("[amqp]\nheartbeat = 1\nframe_max = 5001\nchannel_max = 11\n")
    environ = {"LEVERET_AMQP__HEARTBEAT": "2", "LEVERET_AMQP__FRAME_MAX": "5002"}
    amqp = load_settings(file, environ, [GivenSetting("amqp.heartbeat", "3", "--set")]).amqp
    assert (amqp.heartbeat, amqp.frame_max, amqp.channel_max) == (3, 5002, 11)
    assert amqp.handshake_timeout == Settings().amqp.handshake_timeout


def test_of_two_flags_the_later_one_wins():
    flags = [GivenSetting("log.level", "debug", "--set"), GivenSetting("log.level", "error", "--log-level")]
    assert load_settings(flags=flags).log.level == "error"


@pytest.mark.parametrize(
    ("variable", "value", "key", "expected"),
    [
        ("LEVERET_DATA", ":memory:", "data", ":memory:"),
        ("LEVERET_DEFAULT_PASS", "123", "default_pass", "123"),
        ("LEVERET_LOOPBACK_USERS", "", "loopback_users", ()),
        ("LEVERET_LOOPBACK_USERS", "guest, admin", "loopback_users", ("guest", "admin")),
        ("LEVERET_LISTEN__AMQP", "0.0.0.0:5672,[::]:5672", "listen.amqp", ("0.0.0.0:5672", "[::]:5672")),
        ("LEVERET_LISTEN__AMQP", "none", "listen.amqp", ()),
        ("LEVERET_QUEUE__DEFAULT_DELIVERY_LIMIT", "-1", "queue.default_delivery_limit", -1),
        ("LEVERET_LOG__FORMAT", "json", "log.format", "json"),
    ],
)
def test_environment_text_is_read_as_the_settings_type(variable, value, key, expected):
    found = load_settings(environ={variable: value})
    for name in key.split("."):
        found = getattr(found, name)
    assert found == expected


@pytest.mark.parametrize("value", ["[]", '["none"]'])
def test_file_turns_a_listener_off(settings_file, value):
    assert load_settings(settings_file(f"[listen]\namqp = {value}\n")).listen == Listen(amqp=())


@pytest.mark.parametrize(
    "variable",
    [
        "LEVERET_SERVICE_HOST",
        "LEVERET_SERVICE_PORT",
        "LEVERET_SERVICE_PORT_AMQP",
        "LEVERET_PORT",
        "LEVERET_PORT_5672_TCP",
        "LEVERET_PORT_5672_TCP_ADDR",
    ],
)
def test_variables_of_a_kubernetes_service_of_that_name_are_ignored(variable):
    assert load_settings(environ={variable: "tcp://10.0.0.1:5672", "LEVERETS": "2"}) == Settings()


@pytest.mark.parametrize("variable", ["LEVERET_URL", "LEVERET_API", "LEVERET_MSG_BODY"])
def test_variables_of_the_other_subcommands_are_ignored(variable):
    assert load_settings(environ={variable: "amqp://broker"}) == Settings()


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        ("datta = 'x'", ["datta", "leveret.toml", "no such setting", "nearest is data"]),
        ("[amqp]\nheart_beat = 5", ["amqp.heart_beat", "nearest is amqp.heartbeat"]),
        ("[ampq]\nheartbeat = 5", ["ampq.heartbeat", "nearest is amqp.heartbeat"]),
        ("[lissten]", ["lissten", "no such setting", "nearest is listen."]),
        ("listen = 5672", ["listen (", "no such setting", "nearest is listen."]),
        ("[data]\npath = 'x'", ["data", "wanted a directory, or :memory:", "not {'path': 'x'}"]),
        ("[amqp]\nheartbeat = '60'", ["amqp.heartbeat", "wanted a whole number, 0 to 65535", "not '60'"]),
        ("[amqp]\nheartbeat = true", ["amqp.heartbeat", "wanted a whole number", "not True"]),
        ("[amqp]\nframe_max = 100", ["amqp.frame_max", "4096 to 2147483647", "not 100"]),
        ("[amqp]\nversion = 'new'", ["amqp.version", "wanted X.Y.Z", "not 'new'"]),
        ("[queue]\nconsumer_timeout = -1", ["queue.consumer_timeout", "0 or more", "not -1"]),
        ("[log]\nformat = 'xml'", ["log.format", "wanted one of console, json", "not 'xml'"]),
        ("[listen]\namqp = '127.0.0.1:5672'", ["listen.amqp", "wanted a list of HOST:PORT, or none"]),
        ("[listen]\namqp = ['localhost']", ["listen.amqp", "'localhost' is not HOST:PORT"]),
        ("[listen]\namqp = ['none', '127.0.0.1:1']", ["listen.amqp", "'none' is not HOST:PORT"]),
        ("loopback_users = ['a', 1]", ["loopback_users", "wanted a list of texts"]),
        ("data = \nx = 1", ["leveret.toml", "not valid TOML", "line 1"]),
        (b"data = '\xff'", ["leveret.toml", "not valid TOML"]),
        ("[server]\noutbox_high = 9", ["server.outbox_low (262144)", "above server.outbox_high (9)"]),
    ],
)
def test_refusal_of_a_file_names_setting_origin_and_what_was_wanted(settings_file, document, parts):
    text = refusal(settings_file(document))
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("variable", "parts"),
    [
        (
            "LEVERET_AMQP__HEARTBEATS",
            ["amqp.heartbeats (LEVERET_AMQP__HEARTBEATS)", "LEVERET_AMQP__HEARTBEAT"],
        ),
        ("LEVERET_LISTEN_AMQP", ["listen_amqp (LEVERET_LISTEN_AMQP)", "nearest is LEVERET_LISTEN__AMQP"]),
        ("LEVERET_AMQP__FRAME_MAX", ["amqp.frame_max (LEVERET_AMQP__FRAME_MAX)", "whole number", "not 'x'"]),
    ],
)
def test_refusal_of_a_variable_names_it_and_suggests_a_variable(variable, parts):
    text = refusal(environ={variable: "x"})
    for part in parts:
        assert part in text


def test_refusal_lists_everything_that_is_wrong(settings_file):
    text = refusal(settings_file("a = 1\nb = 2\n"), {"LEVERET_C": "3"}, [GivenSetting("d", "4", "--set")])
    assert [line.split()[0] for line in text.splitlines()] == ["a", "b", "c", "d"]


def test_missing_file_is_refused_by_name(tmp_path):
    assert refusal(str(tmp_path / "absent.toml")).endswith("absent.toml: No such file or directory")


def test_refused_password_is_not_shown(settings_file):
    text = refusal(settings_file("default_pass = 271828"))
    assert "default_pass" in text
    assert "271828" not in text


def test_representation_hides_the_password():
    text = repr(Settings(default_pass="271828"))
    assert "default_pass=***" in text
    assert "271828" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5672", ("127.0.0.1", 5672)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:5672", ("fe80::1%eth0", 5672)),
    ],
)
def test_address_is_split_into_host_and_port(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5672", ":5672", "host", "host:", "host:65536", "::1:5672", "[::1]", "a b:1", "h:-1"]
)
def test_malformed_address_is_refused(text):
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        parse_address(text)


def test_every_default_is_a_value_the_setting_takes():
    for setting in every_setting().values():
        assert setting.convert(setting.default, text=False) == setting.default


def test_documentation_lists_every_setting():
    expected = [
        f"| `{each.key}` | {shown(each.default)} | {each.wanted} | {each.meta.description} |"
        for each in every_setting().values()
    ]
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert [line for line in page.read_text().splitlines() if line.startswith("| `")] == expected


def shown(default: object) -> str:
    """A default as it is written in TOML; nothing for empty text."""
    if isinstance(default, tuple):
        return f"`[{', '.join(json.dumps(item) for item in default)}]`"
    return f"`{json.dumps(default)}`" if default != "" else ""


@pytest.mark.parametrize("value", ["1.5", "40", "1048575", "inf", "nan", "-1"])
def test_watermark_that_is_neither_a_share_nor_a_size_is_refused(value):
    text = refusal(flags=[GivenSetting("alarms.memory_high_watermark", value, "--set")])
    assert "wanted a share from 0 to 1, or bytes, a MiB at least" in text


@pytest.mark.parametrize("value", ["0", "0.4", "1", "1048576", "5e9"])
def test_watermark_is_a_share_or_a_size(value):
    settings = load_settings(flags=[GivenSetting("alarms.memory_high_watermark", value, "--set")])
    assert settings.alarms.memory_high_watermark == float(value)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("http.hosts", "broker.example:80", "a list of host names"),
        ("http.hosts", "https://broker.example", "a list of host names"),
        ("http.origins", "https://app.example/", "a list of origins"),
        ("http.origins", "app.example", "a list of origins"),
    ],
)
def test_names_of_pages_that_would_never_match_are_refused(key, value, wanted):
    assert f"wanted {wanted}" in refusal(flags=[GivenSetting(key, value, "--set")])


def test_names_of_pages_are_compared_without_regard_to_case():
    given = [
        GivenSetting("http.hosts", "Broker.example,::1,*", "--set"),
        GivenSetting("http.origins", "https://App.example:8443,null", "--set"),
    ]
    http = load_settings(flags=given).http
    assert http.hosts == ("broker.example", "::1", "*")
    assert http.origins == ("https://app.example:8443", "null")


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "{a = " * 3000])
def test_values_that_are_nested_too_deeply_are_refused(settings_file, text):
    assert "nested too deeply" in refusal(settings_file(text))


@pytest.mark.parametrize(
    "text", ['data = "a\\u0000b"', 'definitions = "\\u0000"', '[listen]\namqp = ["\\u0000:1"]']
)
def test_texts_with_a_nul_are_refused(settings_file, text):
    assert "not one with a NUL character" in refusal(settings_file(text))


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("postgresql://a/x", ("postgresql://a/x",)),
        ("postgresql://a/x,postgres://b/y", ("postgresql://a/x", "postgres://b/y")),
        ("postgresql://a:1,b:2/x, postgresql://c/y", ("postgresql://a:1,b:2/x", "postgresql://c/y")),
        ("", ()),
    ],
)
def test_urls_of_databases_may_name_several_hosts(text, urls):
    assert load_settings(environ={"LEVERET_OUTBOX__DATABASES": text}).outbox.databases == urls


@pytest.mark.parametrize(
    "text", ["shop", "host=a dbname=x", "mysql://u:secret@a/x", "postgresql://a,http://u:secret@b"]
)
def test_other_databases_are_refused_without_a_password_in_the_error(text):
    error = refusal(environ={"LEVERET_OUTBOX__DATABASES": text})
    assert "wanted a list of postgresql:// URLs" in error
    assert "secret" not in error


def test_settings_show_no_password_of_a_database():
    settings = load_settings(environ={"LEVERET_OUTBOX__DATABASES": "postgresql://u:secret@a/x"})
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql_is_no_data_directory(scheme):
    """The log shows the data directory, and would show the password."""
    error = refusal(environ={"LEVERET_DATA": f"{scheme}://u:secret@a/x"})
    assert "data (LEVERET_DATA): wanted a directory" in error
    assert "--store" in error
    assert "secret" not in error
