"""URLs of PostgreSQL databases: parsing, and a form without the user and the password, for logs and errors.

A password with an unescaped / or @ makes libpq take parts of it for a host, a port or a database, which
errors would then show. Such URLs are refused here. Only the modules that connect import this one, since it
imports psycopg, an optional dependency.
"""

import re
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

UNESCAPED = "a / or @ in its user or password must be written as %2F or %40"


def parse_url(url: str) -> dict[str, Any]:
    """Return the parameters of a URL. Raises psycopg.ProgrammingError, whose text has no part of a password.

    Source: PostgreSQL, "Connection URIs".
    """
    authority, _, rest = url.partition("://")[2].partition("/")
    unread = "" if "@" in authority else rest
    try:
        known = dict(conninfo_to_dict(url))
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        if "@" in unread or not text.startswith("invalid URI query parameter"):
            text = re.sub(r'".*"', '"..."', text)
        raise psycopg.ProgrammingError(text) from None
    ports = re.fullmatch(r"[0-9,]*", str(known.get("port") or ""))
    if "@" in unread.partition("?")[0] or ports is None or "@" in str(known.get("host") or ""):
        raise psycopg.ProgrammingError(UNESCAPED)
    return known


def describe_url(url: str) -> str:
    """Return the hosts, ports and the database of a URL as a URL. Raises psycopg.ProgrammingError."""
    known = parse_url(url)
    hosts = str(known.get("host") or known.get("hostaddr") or "").split(",")
    ports = str(known.get("port") or "").split(",")
    hosts = [f"[{host}]" if ":" in host else host for host in hosts]
    places = [
        f"{host}:{port}" if (port := ports[min(index, len(ports) - 1)]) else host
        for index, host in enumerate(hosts)
    ]
    return f"postgresql://{','.join(places)}/{quote(str(known.get('dbname') or ''))}"
