"""API of policies, operator policies and parameters."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from leveret.protocol.http import Response
from leveret.router.management.access import (
    accessible_vhosts,
    administrator,
    administrator_in_vhost,
    in_vhost,
    management,
    parameter_setter,
    policymaker,
    policymaker_in_vhost,
)
from leveret.router.management.body import demand, number, table, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.query import columns_of, listing, narrowed
from leveret.router.persistence.rows import ParameterRow
from leveret.router.values.field_values import plain
from leveret.router.vhost.policies import Policy
from leveret.router.vhost.vhost import VHost
from leveret.router.web.offloaded import finished
from leveret.router.web.response_steps import ResponseSteps


def show_policy(vhost: VHost, policy: Policy) -> Object:
    """Return a policy, or an operator policy, as an object."""
    return {
        "vhost": vhost.name,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": plain(dict(policy.definition)),
        "priority": policy.priority,
    }


def _all(vhost: VHost, operator: bool) -> dict[str, Policy]:
    return vhost.policies.operator_policies if operator else vhost.policies.policies


def _listed(call: Call, vhosts: list[VHost], operator: bool) -> ResponseSteps[Response]:
    found = ((vhost, policy) for vhost in vhosts for policy in list(_all(vhost, operator).values()))
    return listing(call, found, lambda each: show_policy(*each), name_of=lambda each: each[1].name)


def list_policies(call: Call, *, operator: bool) -> ResponseSteps[Response]:
    return _listed(call, accessible_vhosts(call), operator)


def list_in_vhost(call: Call, *, operator: bool) -> ResponseSteps[Response]:
    return _listed(call, [call.vhost], operator)


def show_one(call: Call, *, operator: bool) -> Response:
    found = _all(call.vhost, operator).get(call["name"])
    if found is None:
        raise not_found()
    return answer(narrowed(show_policy(call.vhost, found), columns_of(call.query)))


def put_policy(call: Call, *, operator: bool) -> ResponseSteps[Response]:
    """Set a policy: 201 for a new one, else 204. Respond when it is applied to all queues and exchanges."""
    body = call.body
    demand(body, ["pattern", "definition"])
    new = call["name"] not in _all(call.vhost, operator)
    try:
        work = call.administration.set_policy(
            call.vhost.name,
            call["name"],
            text(body, "pattern"),
            table(body, "definition"),
            priority=number(body, "priority", 0),
            apply_to=text(body, "apply-to", "all"),
            operator=operator,
        )
    except ValueError as error:
        raise _invalid(error) from None
    yield from finished(work)
    return empty_response(201 if new else 204)


def _invalid(error: ValueError) -> Exception:
    return bad_request(f"Validation failed\n\n{error}\n")


def delete_policy(call: Call, *, operator: bool) -> ResponseSteps[Response]:
    """Delete a policy. Respond when no queue or exchange has its settings any more."""
    yield from finished(call.administration.clear_policy(call.vhost.name, call["name"], operator=operator))
    return empty_response()


# -- parameters ----------------------------------------------------------------------------------------------


def show_parameter(row: ParameterRow) -> Object:
    """Return a runtime parameter as an object."""
    return {"value": plain(row.value), "vhost": row.vhost, "component": row.component, "name": row.name}


def _parameters(call: Call, component: str | None = None, vhost: str | None = None) -> Iterator[ParameterRow]:
    """Return the parameters that the user sees. Access to the virtual host of the path was checked."""
    seen = {vhost} if vhost is not None else {each.name for each in accessible_vhosts(call)}
    return (
        row
        for row in call.administration.parameters.all()
        if row.vhost in seen and component in (None, row.component) and vhost in (None, row.vhost)
    )


def list_parameters(call: Call) -> ResponseSteps[Response]:
    found = _parameters(call, call.segments.get("component"), call.segments.get("vhost"))
    return listing(
        call,
        found,
        show_parameter,
        sort=("vhost", "component", "name"),
        name_of=lambda row: row.name,
    )


def show_one_parameter(call: Call) -> Response:
    for row in _parameters(call, call["component"], call["vhost"]):
        if row.name == call["name"]:
            return answer(narrowed(show_parameter(row), columns_of(call.query)))
    raise not_found()


def put_parameter(call: Call) -> ResponseSteps[Response]:
    """Set a parameter: 201 for a new one, else 204. Respond when it has its effect on all objects."""
    demand(call.body, ["value"])
    name, component = call["name"], call["component"]
    new = all(row.name != name for row in _parameters(call, component, call.vhost.name))
    try:
        work = call.administration.parameters.set(component, call.vhost.name, name, call.body["value"])
    except ValueError as error:
        raise _invalid(error) from None
    yield from finished(work)
    return empty_response(201 if new else 204)


def delete_parameter(call: Call) -> ResponseSteps[Response]:
    yield from finished(
        call.administration.parameters.clear(call["component"], call.vhost.name, call["name"])
    )
    return empty_response()


def list_global_parameters(call: Call) -> Response:
    known = call.broker.global_parameters
    return answer([{"name": name, "value": known[name]} for name in sorted(known)])


def show_global_parameter(call: Call) -> Response:
    known = call.broker.global_parameters
    if call["name"] not in known:
        raise not_found()
    return answer({"name": call["name"], "value": known[call["name"]]})


def put_global_parameter(call: Call) -> Response:
    demand(call.body, ["value"])
    new = call["name"] not in call.broker.global_parameters
    try:
        call.administration.parameters.set_global(call["name"], call.body["value"])
    except ValueError as error:
        raise _invalid(error) from None
    return empty_response(201 if new else 204)


def delete_global_parameter(call: Call) -> Response:
    call.administration.parameters.clear_global(call["name"])
    return empty_response()


def _rules(path: str, *, operator: bool) -> dict[str, Any]:
    change = administrator_in_vhost if operator else policymaker_in_vhost
    return {
        path: {"GET": Rule(management, partial(list_policies, operator=operator))},
        f"{path}/{{vhost}}": {"GET": Rule(in_vhost, partial(list_in_vhost, operator=operator))},
        f"{path}/{{vhost}}/{{name}}": {
            "GET": Rule(change, partial(show_one, operator=operator)),
            "PUT": Rule(change, partial(put_policy, operator=operator)),
            "DELETE": Rule(change, partial(delete_policy, operator=operator)),
        },
    }


RULES: Rules = {
    **_rules("/policies", operator=False),
    **_rules("/operator-policies", operator=True),
    "/parameters": {"GET": Rule(policymaker, list_parameters)},
    "/parameters/{component}": {"GET": Rule(policymaker, list_parameters)},
    "/parameters/{component}/{vhost}": {"GET": Rule(policymaker_in_vhost, list_parameters)},
    "/parameters/{component}/{vhost}/{name}": {
        "GET": Rule(policymaker_in_vhost, show_one_parameter),
        "PUT": Rule(parameter_setter, put_parameter),
        "DELETE": Rule(parameter_setter, delete_parameter),
    },
    "/global-parameters": {"GET": Rule(policymaker, list_global_parameters)},
    "/global-parameters/{name}": {
        "GET": Rule(policymaker, show_global_parameter),
        "PUT": Rule(administrator, put_global_parameter),
        "DELETE": Rule(administrator, delete_global_parameter),
    },
}
