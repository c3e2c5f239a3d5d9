"""API of virtual hosts and their limits."""

from collections.abc import Iterable

from leveret.protocol.http import Response
from leveret.router.auth import User
from leveret.router.management.access import accessible_vhosts, administrator, management, visible_vhosts
from leveret.router.management.body import boolean, demand, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request, not_authorised, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.query import columns_of, listing, narrowed
from leveret.router.management.resources.users import find_user
from leveret.router.management.statistics.rate_values import message_stats, window_of, with_rates
from leveret.router.management.statistics.rates import LENGTHS, OCTETS, SESSION, Numbers, totals
from leveret.router.values.limits import USER_LIMITS, VHOST_LIMITS, LimitError
from leveret.router.vhost.metadata import VHostMetadata, make_metadata
from leveret.router.vhost.vhost import VHost
from leveret.router.web.offloaded import finished
from leveret.router.web.response_steps import ResponseSteps


def show_vhost(call: Call, vhost: VHost, numbers: Numbers) -> Object:
    """Return a virtual host as an object with its ``totals``."""
    series = call.context.sampler.of(vhost)
    sizes = numbers[len(SESSION) :]
    metadata = vhost.metadata
    return {
        "name": vhost.name,
        "description": metadata.description,
        "tags": list(metadata.tags),
        "default_queue_type": metadata.default_queue_type or "undefined",
        "metadata": {"description": metadata.description, "tags": list(metadata.tags)},
        "tracing": vhost.firehose.on,
        "cluster_state": {call.context.node.name: "running"},
        **message_stats(SESSION, numbers[: len(SESSION)], series, window_of(call, "msg_rates")),
        **with_rates((*LENGTHS, *OCTETS), sizes, series, window_of(call, "lengths")),
    }


def list_vhosts(call: Call) -> ResponseSteps[Response]:
    by_vhost = yield from totals(call.broker)
    return (
        yield from listing(
            call,
            [vhost for vhost in visible_vhosts(call) if vhost in by_vhost],
            lambda vhost: show_vhost(call, vhost, by_vhost[vhost]),
            sort=("name",),
            name_of=lambda vhost: vhost.name,
            key_of=lambda vhost: {"name": vhost.name},
        )
    )


def find_vhost(call: Call) -> VHost:
    """Return the virtual host of the path. Raises HttpError 404."""
    found = call.broker.vhosts.get(call["vhost"])
    if found is None:
        raise not_found()
    return found


def show_one(call: Call) -> ResponseSteps[Response]:
    vhost = find_vhost(call)
    by_vhost = yield from totals(call.broker, [vhost])
    return answer(narrowed(show_vhost(call, vhost, by_vhost[vhost]), columns_of(call.query)))


def put_vhost(call: Call) -> Response:
    """Create a virtual host, with permissions for the user, or change its metadata: 201 or 204."""
    name, new = call["vhost"], call["vhost"] not in call.broker.vhosts
    # Read before anything is created: a refused request leaves no virtual host behind.
    tracing, until_unbound = boolean(call.body, "tracing"), boolean(call.body, "tracing_until_unbound")
    try:
        vhost = call.administration.put_vhost(name, _metadata(call), maker=call.user)
    except ValueError as error:
        raise bad_request(str(error)) from None
    if "tracing" in call.body:
        vhost.firehose.switch(on=tracing, until_unbound=until_unbound)
    return empty_response(201 if new else 204)


def _metadata(call: Call) -> VHostMetadata | None:
    body = call.body
    if body.keys().isdisjoint(("description", "tags", "default_queue_type")):
        return None
    return make_metadata(
        description=text(body, "description", ""),
        tags=body.get("tags", ""),
        default_queue_type=text(body, "default_queue_type", ""),
    )


def delete_vhost(call: Call) -> ResponseSteps[Response]:
    """Delete a virtual host; respond when all its objects are deleted. The deletion continues if the client
    disconnects.
    """
    yield from finished(call.administration.delete_vhost(find_vhost(call).name))
    return empty_response()


def start_vhost(call: Call) -> Response:
    """Start a virtual host: without effect, as every virtual host runs on the only node."""
    find_vhost(call)
    if call["node"] != call.context.node.name:
        raise bad_request(f"Request to node {call['node']} failed with nodedown")
    return empty_response()


# -- limits --------------------------------------------------------------------------------------------------


def _limits(vhosts: Iterable[VHost]) -> list[Object]:
    return [{"vhost": vhost.name, "value": dict(vhost.limits)} for vhost in vhosts if vhost.limits]


def list_limits(call: Call) -> Response:
    return answer(_limits(accessible_vhosts(call)))


def limits_of_vhost(call: Call) -> Response:
    vhost = find_vhost(call)
    if vhost not in visible_vhosts(call):
        raise not_authorised("User not authorised to access virtual host")
    return answer(_limits([vhost]))


def put_limit(call: Call) -> Response:
    demand(call.body, ["value"])
    try:
        call.administration.set_vhost_limit(find_vhost(call).name, call["limit"], call.body["value"])
    except LimitError as error:
        raise bad_request(f"Validation failed\n\n{error}\n") from None
    return empty_response()


def delete_limit(call: Call) -> Response:
    """Delete a limit, if it exists."""
    vhost = find_vhost(call)
    if call["limit"] in VHOST_LIMITS:
        call.administration.clear_vhost_limit(vhost.name, call["limit"])
    return empty_response()


def _user_limits(users: Iterable[User]) -> list[Object]:
    return [{"user": user.name, "value": dict(user.limits)} for user in users if user.limits]


def list_user_limits(call: Call) -> Response:
    return answer(_user_limits(call.broker.users.values()))


def limits_of_user(call: Call) -> Response:
    return answer(_user_limits([find_user(call)]))


def put_user_limit(call: Call) -> Response:
    demand(call.body, ["value"])
    try:
        call.administration.set_user_limit(find_user(call).name, call["limit"], call.body["value"])
    except LimitError as error:
        raise bad_request(str(error)) from None
    return empty_response()


def delete_user_limit(call: Call) -> Response:
    """Delete a limit, if it exists."""
    user = find_user(call)
    if call["limit"] in USER_LIMITS:
        call.administration.clear_user_limit(user.name, call["limit"])
    return empty_response()


RULES: Rules = {
    "/vhosts": {"GET": Rule(management, list_vhosts)},
    "/vhosts/{vhost}": {
        "GET": Rule(administrator, show_one),
        "PUT": Rule(administrator, put_vhost),
        "DELETE": Rule(administrator, delete_vhost),
    },
    "/vhosts/{vhost}/start/{node}": {"POST": Rule(administrator, start_vhost)},
    "/vhost-limits": {"GET": Rule(management, list_limits)},
    "/vhost-limits/{vhost}": {"GET": Rule(management, limits_of_vhost)},
    "/vhost-limits/{vhost}/{limit}": {
        "PUT": Rule(administrator, put_limit),
        "DELETE": Rule(administrator, delete_limit),
    },
    "/user-limits": {"GET": Rule(administrator, list_user_limits)},
    "/user-limits/{user}": {"GET": Rule(administrator, limits_of_user)},
    "/user-limits/{user}/{limit}": {
        "PUT": Rule(administrator, put_user_limit),
        "DELETE": Rule(administrator, delete_user_limit),
    },
}
