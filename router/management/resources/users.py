"""API of users and permissions."""

from collections.abc import Iterable, Iterator
from urllib.parse import quote

import structlog

from leveret.protocol.http import Response
from leveret.router.auth import NO_PASSWORD, SHA256, PasswordHash, User, hash_password
from leveret.router.auth.passwords import PASSWORD_AND_HASH
from leveret.router.auth.users import Permission, TopicPermission
from leveret.router.definitions.exporting import export_user
from leveret.router.management.access import administrator
from leveret.router.management.body import demand, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.query import columns_of, listing, narrowed
from leveret.router.values.patterns import PatternError
from leveret.router.vhost.metadata import split_tags
from leveret.router.web.offloaded import finished, offloaded
from leveret.router.web.response_steps import ResponseSteps

WITHOUT_LOGIN = "Leveret-Users-Without-Login"
NAMED = 20  # most users in the header


def find_user(call: Call) -> User:
    """Return the user of the path. Raises HttpError 404."""
    found = call.broker.users.get(call["user"])
    if found is None:
        raise not_found()
    return found


def list_users(call: Call) -> ResponseSteps[Response]:
    return listing(call, list(call.broker.users.values()), export_user, sort=("name",))


def without_permissions(call: Call) -> ResponseSteps[Response]:
    found = (None if user.permissions else user for user in list(call.broker.users.values()))
    return listing(call, found, export_user, sort=("name",))


def show_one(call: Call) -> Response:
    return answer(narrowed(export_user(find_user(call)), columns_of(call.query)))


def put_user(call: Call) -> ResponseSteps[Response]:
    """Create a user, or change one: 201 or 204. Without a password the user cannot log in with one."""
    body, name = call.body, call["user"]
    new = name not in call.broker.users
    if "tags" not in body:
        raise bad_request("tags_not_present")
    try:
        password = yield from _password(call, body)
        user = call.administration.put_user(name, password=password, tags=split_tags(body["tags"]))
    except ValueError as error:  # refused by the administration
        raise bad_request(str(error)) from None
    fault = user.password_hash.fault
    if fault is None:
        return empty_response(201 if new else 204)
    structlog.get_logger().warning("user cannot log in with a password", user=name, reason=fault)
    return Response(201 if new else 204, headers=without_login([name]))


def without_login(users: list[str]) -> tuple[tuple[str, str], ...]:
    """Return the header with the names of users who cannot log in, percent-encoded; "..." ends a cut list."""
    if not users:
        return ()
    names = [quote(name, safe="") for name in users[:NAMED]] + ["..."] * (len(users) > NAMED)
    return ((WITHOUT_LOGIN, ", ".join(names)),)


def _password(call: Call, body: Object) -> ResponseSteps[PasswordHash]:
    """Return the hash of the new password. Raises HttpError 400 for a password and a hash together, or for
    values of other types.
    """
    if "password" in body and "password_hash" in body:
        raise bad_request(PASSWORD_AND_HASH)
    password, text_of_hash = text(body, "password", ""), text(body, "password_hash", "")
    if password:
        scheme = call.broker.settings.auth.password_hash
        return (yield from offloaded(call.broker, lambda: hash_password(password, scheme)))
    if text_of_hash:
        algorithm = text(body, "hashing_algorithm") if body.get("hashing_algorithm") else SHA256
        return PasswordHash(text_of_hash, algorithm)
    return NO_PASSWORD


def delete_user(call: Call) -> ResponseSteps[Response]:
    yield from finished(call.administration.delete_user(find_user(call).name))
    return empty_response()


def delete_users(call: Call) -> ResponseSteps[Response]:
    """Delete several users, all of which must exist."""
    demand(call.body, ["users"])
    names = call.body["users"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request("'users' must be a list of names")
    missing = [name for name in names if name not in call.broker.users]
    if missing:
        raise bad_request(f"there is no user '{missing[0]}'")
    yield from finished(call.administration.delete_users(names))
    return empty_response()


# -- permissions ---------------------------------------------------------------------------------------------

Entry = tuple[str, str, Permission]
TopicEntry = tuple[str, str, str, TopicPermission]


def permissions(users: Iterable[User], in_vhost: str | None = None) -> Iterator[Entry | None]:
    """Yield user, virtual host and permissions of these users, in one virtual host (None: in all), and None
    for each user.
    """
    for user in list(users):
        yield None
        for vhost, permission in list(user.permissions.items()):
            if in_vhost in (None, vhost):
                yield user.name, vhost, permission


def topic_permissions(users: Iterable[User], in_vhost: str | None = None) -> Iterator[TopicEntry | None]:
    """Yield user, virtual host, exchange and permissions of these users, in one virtual host (None: in all),
    and None for each user.
    """
    for user in list(users):
        yield None
        for (vhost, exchange), permission in list(user.topic_permissions.items()):
            if in_vhost in (None, vhost):
                yield user.name, vhost, exchange, permission


def _show(entry: Entry) -> Object:
    user, vhost, permission = entry
    return {"user": user, "vhost": vhost, **permission._asdict()}


def _show_topic(entry: TopicEntry) -> Object:
    user, vhost, exchange, permission = entry
    return {"user": user, "vhost": vhost, "exchange": exchange, **permission._asdict()}


def _listed(call: Call, entries: Iterable[Entry | None]) -> ResponseSteps[Response]:
    return listing(call, entries, _show, sort=("vhost", "user"), name_of=lambda entry: entry[0])


def _topic_listed(call: Call, entries: Iterable[TopicEntry | None]) -> ResponseSteps[Response]:
    return listing(
        call,
        entries,
        _show_topic,
        sort=("vhost", "user", "exchange"),
        name_of=lambda entry: entry[0],
    )


def _named(call: Call) -> list[User]:
    """Return the user of the path, if there is one, in a list."""
    found = call.broker.users.get(call["user"])
    return [] if found is None else [found]


def list_permissions(call: Call) -> ResponseSteps[Response]:
    return _listed(call, permissions(call.broker.users.values()))


def permissions_of_user(call: Call) -> ResponseSteps[Response]:
    return _listed(call, permissions([find_user(call)]))


def permissions_in_vhost(call: Call) -> ResponseSteps[Response]:
    if call["vhost"] not in call.broker.vhosts:
        raise not_found()
    return _listed(call, permissions(call.broker.users.values(), call["vhost"]))


def show_permission(call: Call) -> Response:
    for entry in filter(None, permissions(_named(call), call["vhost"])):
        return answer(narrowed(_show(entry), columns_of(call.query)))
    raise not_found()


def put_permission(call: Call) -> ResponseSteps[Response]:
    """Set the permissions of a user in a virtual host: 201 if the user had none there, else 204. Respond when
    the consumers that they no longer allow are cancelled.
    """
    demand(call.body, ["configure", "write", "read"])
    user = _known(call)
    new = call["vhost"] not in user.permissions
    patterns = {name: text(call.body, name) for name in ("configure", "write", "read")}
    try:
        work = call.administration.set_permission(user.name, call["vhost"], **patterns)
    except PatternError as error:
        raise bad_request(str(error)) from None
    yield from finished(work)
    return empty_response(201 if new else 204)


def _known(call: Call) -> User:
    user = call.broker.users.get(call["user"])
    if user is None or call["vhost"] not in call.broker.vhosts:
        raise bad_request("vhost_or_user_not_found")
    return user


def delete_permission(call: Call) -> ResponseSteps[Response]:
    yield from finished(call.administration.clear_permission(call["user"], call["vhost"]))
    return empty_response()


def list_topic_permissions(call: Call) -> ResponseSteps[Response]:
    return _topic_listed(call, topic_permissions(call.broker.users.values()))


def topic_permissions_of_user(call: Call) -> ResponseSteps[Response]:
    return _topic_listed(call, topic_permissions([find_user(call)]))


def topic_permissions_in_vhost(call: Call) -> ResponseSteps[Response]:
    if call["vhost"] not in call.broker.vhosts:
        raise not_found()
    return _topic_listed(call, topic_permissions(call.broker.users.values(), call["vhost"]))


def show_topic_permission(call: Call) -> ResponseSteps[Response]:
    found = list(filter(None, topic_permissions(_named(call), call["vhost"])))
    if not found:
        raise not_found()
    return _topic_listed(call, found)


def put_topic_permission(call: Call) -> Response:
    """Set the routing keys that a user may write and read at an exchange: 201 or 204."""
    demand(call.body, ["exchange", "write", "read"])
    user, exchange = _known(call), text(call.body, "exchange")
    new = (call["vhost"], exchange) not in user.topic_permissions
    try:
        call.administration.set_topic_permission(
            user.name, call["vhost"], exchange, write=text(call.body, "write"), read=text(call.body, "read")
        )
    except PatternError as error:
        raise bad_request(str(error)) from None
    return empty_response(201 if new else 204)


def delete_topic_permission(call: Call) -> Response:
    exchange = call.segments.get("exchange")
    call.administration.clear_topic_permission(call["user"], call["vhost"], exchange)
    return empty_response()


RULES: Rules = {
    "/users": {"GET": Rule(administrator, list_users)},
    "/users/without-permissions": {"GET": Rule(administrator, without_permissions)},
    "/users/bulk-delete": {"POST": Rule(administrator, delete_users)},
    "/users/{user}": {
        "GET": Rule(administrator, show_one),
        "PUT": Rule(administrator, put_user),
        "DELETE": Rule(administrator, delete_user),
    },
    "/users/{user}/permissions": {"GET": Rule(administrator, permissions_of_user)},
    "/users/{user}/topic-permissions": {"GET": Rule(administrator, topic_permissions_of_user)},
    "/vhosts/{vhost}/permissions": {"GET": Rule(administrator, permissions_in_vhost)},
    "/vhosts/{vhost}/topic-permissions": {"GET": Rule(administrator, topic_permissions_in_vhost)},
    "/permissions": {"GET": Rule(administrator, list_permissions)},
    "/permissions/{vhost}/{user}": {
        "GET": Rule(administrator, show_permission),
        "PUT": Rule(administrator, put_permission),
        "DELETE": Rule(administrator, delete_permission),
    },
    "/topic-permissions": {"GET": Rule(administrator, list_topic_permissions)},
    "/topic-permissions/{vhost}/{user}": {
        "GET": Rule(administrator, show_topic_permission),
        "PUT": Rule(administrator, put_topic_permission),
        "DELETE": Rule(administrator, delete_topic_permission),
    },
    "/topic-permissions/{vhost}/{user}/{exchange}": {"DELETE": Rule(administrator, delete_topic_permission)},
}
