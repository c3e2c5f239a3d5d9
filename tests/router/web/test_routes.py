import pytest

from leveret.protocol.http import HttpError, Request, Response, split_path
from leveret.router.web.routes import HttpRoutes


def request(path: str, method: str = "GET") -> Request:
    return Request(method, path, split_path(path), "", {})


def named(name: str):
    return lambda request, **segments: Response(200, repr((name, segments)).encode())


ROUTES = HttpRoutes(
    {"/": {"GET": named("front")}, "/api/queues/{vhost}": {"GET": named("list")}},
    {
        "/api/queues/{vhost}/{name}": {"GET": named("show"), "PUT": named("put"), "DELETE": named("delete")},
        "/api/queues/{vhost}/all": {"GET": named("all")},
        "/api/queues/special/{name}/x": {"POST": named("post")},
    },
)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", ("front", {})),
        ("HEAD", "/", ("front", {})),
        ("GET", "/api/queues/%2F", ("list", {"vhost": "/"})),
        ("PUT", "/api/queues/%2F/a%2Fb", ("put", {"vhost": "/", "name": "a/b"})),
        ("GET", "/api/queues/v/all", ("all", {"vhost": "v"})),
        ("GET", "/api/queues/v/", ("list", {"vhost": "v"})),
        ("GET", "/api/queues/special/q", ("show", {"vhost": "special", "name": "q"})),
        ("POST", "/api/queues/special/q/x", ("post", {"name": "q"})),
    ],
)
def test_route_is_found_with_its_segments(method, path, expected):
    asked = request(path, method)
    assert ROUTES.find(asked)(asked).body == repr(expected).encode()


@pytest.mark.parametrize(
    "path",
    ["", "*", "/x", "//", "/api/queues", "/api/queues/", "/api/queues/v//", "/api/queues/v/q/x"],
)
def test_path_without_a_handler_is_404(path):
    with pytest.raises(HttpError) as caught:
        ROUTES.find(request(path))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("OPTIONS", "/api/queues/v/q", "DELETE, GET, HEAD, PUT"),
        ("HEAD", "/api/queues/special/q/x", "POST"),
        ("get", "/", "GET, HEAD"),
    ],
)
def test_method_that_is_not_answered_is_405_with_those_that_are(method, path, allowed):
    with pytest.raises(HttpError) as caught:
        ROUTES.find(request(path, method))
    assert caught.value.status == 405
    assert caught.value.headers == (("Allow", allowed),)
