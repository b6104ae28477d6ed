"""The tool that fetches, against servers of this machine that lead it astray."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import process_time
from typing import Any

import httpx
import pytest

from schemas.errors import DefinitionError, ToolError, ToolTimeout
from tests.integration.tools.using import KEY, use
from workers.tools import http_fetch
from workers.tools.builtin import web
from workers.tools.builtin.addresses import Host, Reach, host_of

CERTIFICATE = Path(__file__).with_name("docs.test.pem")
"""Of docs.test, with its key, for a hundred years: it protects nothing."""

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on a loopback address: what it was asked, and what it answers by path."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answers: dict[str, Answer] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                site.asked.append(f"{self.command} {self.path}")
                site.headers.append({name.lower(): value for name, value in self.headers.items()})
                with suppress(OSError):  # whoever has enough goes away
                    site.answers.get(self.path, page("hello"))(self)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def secured(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def page(text: str | bytes, kind: str = "text/plain", status: int = 200, **headers: str) -> Answer:
    body = text.encode() if isinstance(text, str) else text

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        if kind:
            request.send_header("Content-Type", kind)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def leads(to: str, status: int = 302) -> Answer:
    return page("", status=status, location=to)


def endless(part: bytes, begin: bytes = b"", **headers: str) -> Answer:
    """A body without an end, as fast as it is taken."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in {"content_type": "text/plain", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(begin)
        while True:
            request.wfile.write(part)

    return answer


def silent(request: BaseHTTPRequestHandler) -> None:
    """Say nothing until the other side gives up."""
    request.rfile.read(1)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site("127.0.0.1")
    yield made
    made.close()


class Names:
    """Who is where, as a resolver says that may say something else each time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._said: defaultdict[str, list[list[str]]] = defaultdict(list)

    def are(self, name: str, *turns: list[str]) -> None:
        """The addresses of a name each time it is asked for, the last ones for good."""
        self._said[name] = list(turns)

    def __call__(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        turns = self._said[name]
        if not turns:
            return list(_real(host, port, type=socket.SOCK_STREAM))
        said = turns.pop(0) if len(turns) > 1 else turns[0]
        return [found for one in said for found in _real(one, port, type=socket.SOCK_STREAM)]


_real = socket.getaddrinfo


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    told = Names()
    monkeypatch.setattr(socket, "getaddrinfo", told)
    return told


# --- what it gives ------------------------------------------------------------------------------------------


def test_a_text_with_what_the_server_said_of_it(site: Site, names: Names) -> None:
    names.are("docs.test", ["127.0.0.1"])
    site.answers["/a?b=c"] = page("grüße".encode("latin-1"), "text/html; charset=latin-1", 203)
    fetch = http_fetch([f"docs.test:{site.port}"], private=True)

    found = use(fetch, url=f"http://docs.test:{site.port}/a?b=c")

    assert found == {
        "url": f"http://docs.test:{site.port}/a?b=c",
        "status": 203,
        "content_type": "text/html",
        "text": "grüße",
        "truncated": False,
    }
    assert site.headers[0]["host"] == f"docs.test:{site.port}"
    assert "docs.test" in fetch.spec.description


def test_other_methods_carry_the_key_of_the_call(site: Site) -> None:
    send = http_fetch([f"127.0.0.1:{site.port}"], methods=("POST", "DELETE"), private=True, name="send")

    use(send, url=f"http://127.0.0.1:{site.port}/orders", method="POST", body='{"a": 1}')

    assert site.asked == ["POST /orders"]
    assert site.headers[0]["idempotency-key"] == KEY
    assert site.headers[0]["content-type"] == "application/json"
    assert (send.spec.risk, send.spec.idempotent) == ("medium", False)
    with pytest.raises(ToolError, match="method"):
        use(send, url=f"http://127.0.0.1:{site.port}/", method="PUT")


def test_what_is_no_text_is_refused(site: Site) -> None:
    site.answers["/image"] = page(b"\x89PNG", "image/png")
    site.answers["/unnamed"] = page(b"a\0b", "")
    fetch = http_fetch([f"127.0.0.1:{site.port}"], private=True)

    for path in ("image", "unnamed"):
        with pytest.raises(ToolError, match="no text"):
            use(fetch, url=f"http://127.0.0.1:{site.port}/{path}")


def test_a_text_that_postgres_could_not_store_is_made_storable(site: Site) -> None:
    site.answers["/nul"] = page(b"a\0b\xff", "application/json")
    site.answers["/odd"] = page(b"+2AA-", "text/plain; charset=utf-7")
    fetch = http_fetch([f"127.0.0.1:{site.port}"], private=True)

    assert use(fetch, url=f"http://127.0.0.1:{site.port}/nul")["text"] == "a\N{REPLACEMENT CHARACTER}b�"
    use(fetch, url=f"http://127.0.0.1:{site.port}/odd")["text"].encode()


def test_a_charset_that_no_text_has_is_taken_for_none(site: Site) -> None:
    """To take 200 kB for Punycode stops the whole worker for four seconds."""
    body = b"a" * 100_000 + b"-" + b"b" * 99_000
    fetch = http_fetch([f"127.0.0.1:{site.port}"], private=True)

    for charset in ("punycode", "idna", "unicode_escape", "zip"):
        site.answers[f"/{charset}"] = page(body, f"text/plain; charset={charset}")
        begun = process_time()
        assert use(fetch, url=f"http://127.0.0.1:{site.port}/{charset}")["text"] == body.decode()
        assert process_time() - begun < 2


@pytest.mark.parametrize(
    "given",
    [
        {"body": "\ud800"},
        {"content_type": "text/pl\u00e4in"},
        {"content_type": "text/plain\r\nX-Role: admin"},
        {"path": "\ud800"},
    ],
)
def test_what_http_has_no_room_for_is_told_to_the_model(given: dict[str, str], site: Site) -> None:
    send = http_fetch([f"127.0.0.1:{site.port}"], methods=("GET", "POST"), private=True)
    url = f"http://127.0.0.1:{site.port}/{given.pop('path', '')}"

    with pytest.raises(ToolError, match="cannot be fetched") as raised:
        use(send, url=url, method="POST", **({"body": "x"} | given))

    assert site.asked == []
    str(raised.value).encode()


# --- hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "let", "refused"),
    [
        ("example.org", ["example.org:443", "example.org:80"], ["www.example.org:443", "example.org:8080"]),
        (
            "*.example.org",
            ["a.example.org:80", "a.b.example.org:80"],
            ["example.org:80", "badexample.org:80"],
        ),
        ("Example.org.:8080", ["example.org:8080"], ["example.org:80"]),
        ("*", ["anything.test:443"], ["anything.test:22"]),
    ],
)
def test_an_entry_of_the_allow_list(entry: str, let: list[str], refused: list[str]) -> None:
    host = host_of(entry)
    assert isinstance(host, Host)

    for one, expected in [*((name, True) for name in let), *((name, False) for name in refused)]:
        name, _, port = one.partition(":")
        assert host.lets(name, int(port)) is expected, one


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": []},
        {"hosts": ["https://example.org"]},
        {"hosts": ["a@example.org"]},
        {"hosts": ["ex*mple.org"]},
        {"hosts": ["example.org:x"]},
        {"hosts": ["example.org"], "methods": ("FETCH",)},
        {"hosts": ["example.org"], "private": ("10.0.0.0/99",)},
        {"hosts": ["example.org"], "max_bytes": 0},
    ],
)
def test_a_definition_with_faults_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="http_fetch"):
        http_fetch(**options)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://other.test/", "not among the hosts"),
        ("http://docs.test@other.test/", "no place for a name"),
        ("http://docs.test:secret@docs.test/", "no place for a name"),
        ("http://other.test\\@docs.test/", "."),
        ("http://other.test#@docs.test/", "not among the hosts"),
        ("http://docs.test.other.test/", "not among the hosts"),
        ("http://docs.test:22/", "not among the hosts"),
        ("ftp://docs.test/", "no http or https URL"),
        ("file:///etc/passwd", "no http or https URL"),
        ("//docs.test/", "no http or https URL"),
        ("http:///", "not among the hosts"),
        ("http://docs.test:99999/", "."),
        ("http://docs.tést\r\nx: y/", "."),
        ("gopher:docs.test", "."),
    ],
)
def test_only_the_named_hosts_are_asked(url: str, reason: str, site: Site, names: Names) -> None:
    names.are("docs.test", ["127.0.0.1"])
    names.are("other.test", ["127.0.0.1"])

    with pytest.raises(ToolError, match=reason):
        use(http_fetch(["docs.test", f"docs.test:{site.port}"], private=True), url=url)

    assert site.asked == []
    assert "other.test" not in names.asked


# --- addresses ------------------------------------------------------------------------------------------------


PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "2002:101:101::1",
    "64:ff9b::101:101",
]
LOCAL = ["127.0.0.1", "127.9.9.9", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1"]
LOCAL += ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1"]
NEVER = ["169.254.169.254", "168.63.129.16", "192.0.0.192", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::"]  # noqa: S104
NEVER += [
    "100.100.100.200",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "fd00:ec2::254",
    "fec0::1",
]
NEVER += ["::ffff:169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "::ffff:0:0"]


def test_which_addresses_are_public() -> None:
    by_default, private, named = Reach(False), Reach(True), Reach(["10.1.0.0/16", "169.254.169.254/32"])

    for address in PUBLIC:
        assert by_default.lets(address), address
    for address in LOCAL:
        assert not by_default.lets(address), address
        assert private.lets(address), address
    for address in NEVER:
        assert not by_default.lets(address), address
        assert not private.lets(address), address
    assert [
        named.lets(one) for one in ("10.1.2.3", "169.254.169.254", "10.2.0.1", "127.0.0.1", "1.1.1.1")
    ] == [
        True,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127。0。0。1",
        "127.0.0.1.",
    ],
)
def test_no_way_to_write_this_machine_reaches_it(host: str, site: Site) -> None:
    fetch = http_fetch([f"*:{site.port}"])

    with pytest.raises(ToolError, match=r"not public|has no address|cannot be fetched"):
        use(fetch, url=f"http://{host}:{site.port}/")

    assert site.asked == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(site: Site, names: Names) -> None:
    names.are("mixed.test", ["1.1.1.1", "127.0.0.1"])

    with pytest.raises(ToolError, match="not public"):
        use(http_fetch([f"mixed.test:{site.port}"]), url=f"http://mixed.test:{site.port}/")

    assert site.asked == []


def test_the_checked_address_is_the_one_that_is_asked(names: Names) -> None:
    good = Site("127.0.0.2")
    evil = Site("127.0.0.1", good.port)
    names.are("rebinding.test", ["127.0.0.2"], ["127.0.0.1"])
    fetch = http_fetch([f"rebinding.test:{good.port}"], private=["127.0.0.2/32"])
    try:
        assert use(fetch, url=f"http://rebinding.test:{good.port}/")["text"] == "hello"
        with pytest.raises(ToolError, match="not public"):
            use(fetch, url=f"http://rebinding.test:{good.port}/")
    finally:
        good.close()
        evil.close()

    assert names.asked == ["rebinding.test", "rebinding.test"]
    assert (good.asked, evil.asked) == (["GET /"], [])


def test_a_second_address_is_tried_when_the_first_one_does_not_answer(names: Names) -> None:
    site = Site("127.0.0.2")
    names.are("docs.test", ["127.0.0.3", "127.0.0.2"])
    try:
        fetch = http_fetch([f"docs.test:{site.port}"], private=True)
        assert use(fetch, url=f"http://docs.test:{site.port}/")["text"] == "hello"
    finally:
        site.close()


def test_a_certificate_has_to_be_that_of_the_name_that_is_asked(
    site: Site, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_certificates", lambda: ssl.create_default_context(cafile=CERTIFICATE))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(CERTIFICATE)
    site.secured(secure)
    names.are("docs.test", ["127.0.0.1"])
    names.are("other.test", ["127.0.0.1"])
    fetch = http_fetch([f"*:{site.port}"], private=True)

    assert use(fetch, url=f"https://docs.test:{site.port}/")["text"] == "hello"
    for name in ("other.test", "127.0.0.1"):
        with pytest.raises(ToolError, match="certificate"):
            use(fetch, url=f"https://{name}:{site.port}/")
    assert site.asked == ["GET /"]


def test_a_proxy_of_the_environment_is_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{site.port}")

    with pytest.raises(ToolError, match="cannot be fetched"):
        use(http_fetch(["127.0.0.1:9"], private=True), url="http://127.0.0.1:9/")

    assert site.asked == []


# --- redirects ------------------------------------------------------------------------------------------------


def test_a_redirect_leads_to_hosts_that_may_be_asked(site: Site, names: Names) -> None:
    names.are("docs.test", ["127.0.0.1"])
    site.answers["/old"] = leads("new", 301)
    fetch = http_fetch([f"docs.test:{site.port}"], private=True)

    found = use(fetch, url=f"http://docs.test:{site.port}/old")

    assert (found["url"], found["text"]) == (f"http://docs.test:{site.port}/new", "hello")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.1:{port}/secret", "not among the hosts"),
        ("//other.test:{port}/secret", "not among the hosts"),
        ("http://inside.docs.test:{port}/secret", "not public"),
        ("http://user:word@docs.test:{port}/secret", "no place for a name"),
        ("file:///etc/passwd", "no http or https URL"),
        ("http://[", "not among the hosts"),
    ],
)
def test_a_redirect_cannot_lead_anywhere_else(target: str, reason: str, site: Site, names: Names) -> None:
    names.are("docs.test", ["127.0.0.1"])
    names.are("inside.docs.test", ["127.0.0.5"])
    site.answers["/"] = leads(target.format(port=site.port))
    hosts = [f"docs.test:{site.port}", f"*.docs.test:{site.port}"]

    with pytest.raises(ToolError, match=reason):
        use(http_fetch(hosts, private=["127.0.0.1/32"]), url=f"http://docs.test:{site.port}/")

    assert site.asked == ["GET /"]


def test_redirects_have_an_end(site: Site) -> None:
    site.answers["/"] = leads("/")
    fetch = http_fetch([f"127.0.0.1:{site.port}"], redirects=3, private=True)

    with pytest.raises(ToolError, match="redirects more than 3 times"):
        use(fetch, url=f"http://127.0.0.1:{site.port}/")

    assert len(site.asked) == 4


def test_what_is_sent_is_sent_again_only_where_the_redirect_says_so(site: Site) -> None:
    site.answers["/moved"] = leads("/b", 307)
    site.answers["/done"] = leads("/c", 303)
    send = http_fetch([f"127.0.0.1:{site.port}"], methods=("POST",), private=True)

    for path in ("moved", "done"):
        use(send, url=f"http://127.0.0.1:{site.port}/{path}", method="POST", body="{}")

    assert site.asked == ["POST /moved", "POST /b", "POST /done", "GET /c"]


# --- sizes and time -------------------------------------------------------------------------------------------


def test_a_body_without_an_end_is_cut(site: Site) -> None:
    site.answers["/"] = endless(b"x" * 1000)
    fetch = http_fetch([f"127.0.0.1:{site.port}"], max_bytes=5_000, private=True)

    found = use(fetch, url=f"http://127.0.0.1:{site.port}/")

    assert (found["text"], found["truncated"]) == ("x" * 5_000, True)


def test_what_is_compressed_is_read_and_a_small_bomb_makes_no_large_text(site: Site) -> None:
    site.answers["/small"] = page(gzip.compress(b"small"), content_encoding="gzip")
    site.answers["/bomb"] = page(
        gzip.compress(bytes(50_000_000).replace(b"\0", b"x")), content_encoding="gzip"
    )
    site.answers["/other"] = page(b"", content_encoding="br")
    site.answers["/broken"] = page(b"broken", content_encoding="gzip")
    fetch = http_fetch([f"127.0.0.1:{site.port}"], max_bytes=100_000, private=True)
    at = f"http://127.0.0.1:{site.port}"

    assert use(fetch, url=f"{at}/small")["text"] == "small"
    bomb = use(fetch, url=f"{at}/bomb")
    assert (len(bomb["text"]), bomb["truncated"]) == (100_000, True)
    for path in ("other", "broken"):
        with pytest.raises(ToolError):
            use(fetch, url=f"{at}/{path}")


def test_compression_that_gives_nothing_has_an_end(site: Site) -> None:
    compressing = zlib.compressobj()
    begin = compressing.compress(b"") + compressing.flush(zlib.Z_SYNC_FLUSH)
    nothing = compressing.flush(zlib.Z_FULL_FLUSH) * 100
    site.answers["/"] = endless(nothing, begin, content_encoding="deflate")
    fetch = http_fetch([f"127.0.0.1:{site.port}"], max_bytes=50_000, private=True)

    with pytest.raises(ToolError, match="too large even so"):
        use(fetch, url=f"http://127.0.0.1:{site.port}/")


def test_little_of_a_bomb_is_held_at_a_time() -> None:
    async def sizes() -> list[int]:
        bomb = httpx.Response(
            200,
            headers={"content-encoding": "gzip"},
            stream=httpx.ByteStream(gzip.compress(bytes(10_000_000))),
        )
        return [len(part) async for part in web._inflated(bomb, 20_000)]

    assert asyncio.run(sizes()) == [20_001]


def test_a_server_has_its_time(site: Site) -> None:
    site.answers["/"] = silent
    began = time.monotonic()

    with pytest.raises(ToolTimeout, match=r"took longer than 0.1 s"):
        use(
            http_fetch([f"127.0.0.1:{site.port}"], timeout=0.1, private=True),
            url=f"http://127.0.0.1:{site.port}/",
        )

    assert time.monotonic() - began < 3
