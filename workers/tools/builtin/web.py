"""Fetching over HTTP, from the hosts that an agent may ask."""

from __future__ import annotations

import asyncio
import codecs
import re
import zlib
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, Unpack

from pydantic import BaseModel

from schemas.errors import DefinitionError, Fault, ToolError, ToolTimeout
from workers.storable import storable
from workers.tools.builtin.addresses import PORTS, Host, Reach, host_of
from workers.tools.builtin.options import GRACE, Options
from workers.tools.call import ToolCall
from workers.tools.declared import Tool, tool

if TYPE_CHECKING:
    import ssl

    import httpx

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CHANGING = {"POST", "PATCH"}
"""Methods that may have another effect when they are repeated (RFC 9110, 9.2.2)."""
REDIRECTS = {301, 302, 303, 307, 308}
REPEATED = {307, 308}
"""Redirects that are followed with the same method and body."""
TEXT = re.compile(
    r"text/.+|.+[/+](json|xml|yaml)|application/(x-)?(ndjson|jsonl|javascript|yaml|www-form-urlencoded)"
)
"""Content types whose body a model can read."""
NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
"""Codecs of Python that are charsets of no text."""


class Fetched(BaseModel):
    """What a server answered."""

    url: str
    """The last one, after redirects."""
    status: int
    content_type: str
    text: str
    truncated: bool = False
    """There was more than the tool may read."""


def http_fetch(
    hosts: Sequence[str],
    *,
    methods: Sequence[str] = ("GET",),
    max_bytes: int = 200_000,
    redirects: int = 5,
    timeout: float = 10.0,
    private: bool | Sequence[str] = False,
    name: str = "http_fetch",
    **options: Unpack[Options],
) -> Tool:
    """Make a tool that fetches texts over HTTP from `hosts`, and from nowhere else.

    A host is `example.org`, `*.example.org` (those below it, not itself), or `*` for all of the internet; on the
    ports 80 and 443, unless it names another one, `example.org:8080`. All addresses of a host have to be public,
    whatever it is called and wherever a redirect leads: True for `private` lets loopback and private networks be
    reached too, networks such as `("10.1.0.0/16",)` those only. At most `max_bytes` of a body are read, after
    decompression; the rest is cut. `timeout` seconds are for all of it. Proxies and `.netrc` are not looked at. With
    other methods than GET the model gives the method and a body, the server gets an `Idempotency-Key` that is the same
    in every attempt of the step, and the step is warned of each call. `options` are those of `workers.tool`: a POST of
    which nobody knows how it ended is repeated with `idempotent=True` only.
    """
    if isinstance(hosts, str):
        raise DefinitionError("tool 'http_fetch'", [Fault("hosts", f"write a list: [{hosts!r}]")])
    found = [host_of(entry) for entry in hosts]
    faults = [one for one in found if isinstance(one, Fault)]
    faults += [
        Fault("methods", f"{one} is none of {', '.join(METHODS)}") for one in methods if one not in METHODS
    ]
    if not hosts or not methods:
        faults.append(Fault("", "say which hosts, and which methods"))
    if max_bytes < 1 or redirects < 0 or timeout <= 0:
        faults.append(Fault("", "max_bytes and timeout must be positive, redirects not negative"))
    try:
        reach = Reach(private)
    except ValueError as error:
        faults.append(Fault("private", str(error)))
    if faults:
        raise DefinitionError(f"tool {name!r}", faults)
    browser = _Browser([one for one in found if isinstance(one, Host)], reach, max_bytes, redirects, timeout)

    async def fetch(url: str) -> Fetched:
        return await browser.fetch("GET", url)

    async def send(call: ToolCall, url: str, method: str, body: str = "", content_type: str = "") -> Fetched:
        headers = {"idempotency-key": call.idempotency_key}
        if body:
            headers["content-type"] = content_type or "application/json"
        return await browser.fetch(method, url, headers, body)

    harmless = set(methods) <= {"GET", "HEAD"}
    send.__annotations__["method"] = Literal[tuple(methods)]
    declared: Options = {"risk": "low" if harmless else "medium", "idempotent": not CHANGING & set(methods)}
    return tool(
        name=name,
        description=f"Fetch a text over HTTP. Hosts that may be asked: {', '.join(hosts)}.",
        timeout=timeout + GRACE,
        version=repr((sorted(hosts), sorted(methods), private, max_bytes, redirects)),
        **(declared | options),
    )(fetch if tuple(methods) == ("GET",) else send)


class _Browser:
    """Makes requests within its limits."""

    def __init__(
        self, hosts: Sequence[Host], reach: Reach, max_bytes: int, redirects: int, timeout: float
    ) -> None:
        self._hosts = hosts
        self._reach = reach
        self._max_bytes = max_bytes
        self._redirects = redirects
        self._timeout = timeout

    async def fetch(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: str = ""
    ) -> Fetched:
        """Raises `ToolError` for whatever the model, or the server, did wrong."""
        import httpx

        try:
            async with asyncio.timeout(self._timeout):
                return await self._followed(method, url, headers or {}, body.encode())
        except TimeoutError:
            raise ToolTimeout(f"{url} took longer than {self._timeout:g} s") from None
        except UnicodeError:  # in a header, which is ASCII, or half of a character anywhere
            raise ToolError(
                f"{storable(url)} cannot be fetched: it holds characters that HTTP has no room for"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, zlib.error) as error:
            raise ToolError(f"{url} cannot be fetched: {str(error) or type(error).__name__}") from None

    async def _followed(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Fetched:
        import httpx

        limits = httpx.Timeout(self._timeout)
        client = httpx.AsyncClient(verify=_certificates(), trust_env=False, timeout=limits)
        at = httpx.URL(url)
        async with client:
            for _ in range(self._redirects + 1):
                response = await self._answer(client, method, at, headers, body)
                try:
                    target = response.headers.get("location")
                    if response.status_code not in REDIRECTS or target is None:
                        return await self._read(at, response)
                finally:
                    await response.aclose()
                client.cookies.clear()  # they are kept by address, which several hosts may share
                at = at.join(target)
                if response.status_code not in REPEATED and method != "HEAD":
                    method, body = "GET", b""
        raise ToolError(f"{url} redirects more than {self._redirects} times")

    async def _answer(
        self, client: httpx.AsyncClient, method: str, url: httpx.URL, headers: dict[str, str], body: bytes
    ) -> httpx.Response:
        """Ask the address that was checked, by the name that was asked for."""
        import httpx

        addresses = await self._checked(url)
        sent = {"accept-encoding": "gzip, deflate", **headers, "host": url.netloc.decode("ascii")}
        for address in addresses:
            request = client.build_request(
                method,
                url.copy_with(host=address),
                headers=sent,
                content=body or None,
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
            )
            try:
                return await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise ToolError(f"{url.host} has no address")

    async def _checked(self, url: httpx.URL) -> list[str]:
        """The addresses at which this URL may be asked. It is read by the same parser that will send it."""
        if url.scheme not in PORTS:
            raise ToolError(f"{url} is no http or https URL")
        if url.userinfo:
            raise ToolError("a URL is no place for a name or a password")
        host, port = url.raw_host.decode("ascii").rstrip("."), url.port or PORTS[url.scheme]
        if not any(one.lets(host, port) for one in self._hosts):
            raise ToolError(f"{url.netloc.decode('ascii')} is not among the hosts that may be asked")
        return await self._reach.addresses(host, port)

    async def _read(self, url: httpx.URL, response: httpx.Response) -> Fetched:
        kind, _, rest = response.headers.get("content-type", "").partition(";")
        kind = kind.strip().lower()
        if kind and not TEXT.fullmatch(kind):
            raise ToolError(f"{url} is {kind}, which is no text")
        body, truncated = b"", False
        async for part in _inflated(response, self._max_bytes):
            body += part
            if len(body) > self._max_bytes:
                body, truncated = body[: self._max_bytes], True
                break
        if not kind and b"\0" in body:
            raise ToolError(f"{url} is no text")
        text = _decoded(body, rest)
        return Fetched(
            url=str(url), status=response.status_code, content_type=kind, text=text, truncated=truncated
        )


async def _inflated(response: httpx.Response, most: int) -> AsyncIterator[bytes]:
    """The body without its compression, a little more than `most` bytes of it at a time: a small one may be huge."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        async for part in response.aiter_raw():
            yield part
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ToolError(f"the answer is compressed as {encoding}, which was not asked for")
    inflating = zlib.decompressobj(zlib.MAX_WBITS | 32)
    read = 0
    async for part in response.aiter_raw():
        read += len(part)
        if read > 2 * most:
            # Compression that makes things larger: an endless stream of nothing.
            raise ToolError("the answer is compressed, and too large even so")
        yield inflating.decompress(part, most + 1)


def _decoded(body: bytes, parameters: str) -> str:
    found = re.search(r'charset="?([\w.:-]+)', parameters, re.IGNORECASE)
    try:
        text = body.decode(_charset(found[1]) if found else "utf-8", "replace")
    except (LookupError, UnicodeError):
        text = body.decode("utf-8", "replace")
    return storable(text)


def _charset(name: str) -> str:
    """Raises `LookupError` for what only Python takes for one; for some of those it needs seconds."""
    if codecs.lookup(name).name in NO_CHARSETS:
        raise LookupError(name)
    return name


@cache
def _certificates() -> ssl.SSLContext:
    """Those that are trusted; reading them takes a moment."""
    import httpx

    return httpx.create_ssl_context()
