"""HTTP requests, as much of them as a server for figures and health needs (RFC 9112)."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.net.http import BadRequest, Request, parse_request


@pytest.mark.parametrize(
    ("head", "method", "path"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: a", "GET", "/metrics"),
        (b"GET /metrics HTTP/1.0", "GET", "/metrics"),
        (b"HEAD /readyz?verbose=1 HTTP/1.1\r\nhost:", "HEAD", "/readyz"),
        (b"GET http://10.0.0.1:9090/healthz?x HTTP/1.1\r\nHost: b", "GET", "/healthz"),
        (b"GET HTTP://a HTTP/1.1\r\nHost: a", "GET", "/"),
        (b"GET //evil/metrics HTTP/1.1\r\nHost: a", "GET", "//evil/metrics"),
        (b"\r\nGET / HTTP/1.1\nHost: a\nAccept: */*", "GET", "/"),
        (b"BREW /pot HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4", "BREW", "/pot"),
    ],
)
def test_a_request_has_a_method_and_a_path(head: bytes, method: str, path: str) -> None:
    """RFC 9112 §3.2.2: a target may name a server, too; §2.2: a single LF ends a line, an empty line may come first."""
    assert parse_request(head) == Request(method, path)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1\r\nHost: a", 400),
        (b"GET / x HTTP/1.1\r\nHost: a", 400),
        (b"GET / HTTP/1.1", 400),  # RFC 9112 §3.2
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET / HTTP/1.1\r\nHost : a", 400),  # RFC 9112 §5.1
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded", 400),  # RFC 9112 §5.2
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00", 400),
        (b"GET / HTTP/1.1\rHost: a", 400),
        (b"GET / HTTP/2.0\r\nHost: a", 505),
        (b"EHLO client.example.org", 400),
    ],
)
def test_what_is_no_request_has_a_status(head: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request(head)
    assert caught.value.status == status


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"GET /" + tail))
def test_nothing_else_is_raised_whatever_comes(head: bytes) -> None:
    with suppress(BadRequest):
        request = parse_request(head)
        assert request.path
        assert "?" not in request.path
