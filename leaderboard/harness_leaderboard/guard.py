"""Who may ask the app, and what a browser may do with its answers: a small ASGI layer around Streamlit's own.

A page that was opened elsewhere can make a name of its own point to this machine (DNS rebinding); it then asks with that
name in ``Host``. So only names that this server is known by are answered, WebSockets included. The content security
policy lets a page take scripts, styles and data from this server alone, and nobody may put it into a frame.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")


@functools.cache
def names_of(address: str) -> frozenset[str]:
    """The names under which a server that listens on ``address`` answers: its own, and this machine's where it can be
    reached from others."""
    if address in LOCAL:
        return LOCAL
    return LOCAL | {address.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}


def is_known(host: str, address: str) -> bool:
    """Whether a ``Host`` header names a server that listens on ``address``.

    An address in digits cannot be rebound, so any is taken where others can reach the server.
    """
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found.group(1).strip("[]").rstrip(".")
    if name in names_of(address):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return address not in LOCAL


def policy(inline: Iterable[str]) -> str:
    """The content security policy of a page with these inline scripts.

    ``blob:`` and ``'wasm-unsafe-eval'`` are what Streamlit's front end loads its components and tables with.
    """
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline)
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'self'; script-src 'self' blob: 'wasm-unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
        "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-src 'self'; "
        "frame-ancestors 'none'"
    )


def inline_scripts(page: Path) -> list[str]:
    """The inline scripts of an HTML page, as a browser hashes them."""
    html = page.read_text(encoding="utf-8")
    found = re.findall(r"<script\b([^>]*)>(.*?)</script>", html, re.DOTALL | re.IGNORECASE)
    return [script for attributes, script in found if "src=" not in attributes]


def headers(page: Path) -> Mapping[str, str]:
    """What every answer carries; ``page`` is the one page that Streamlit serves."""
    return {
        "Content-Security-Policy": policy(inline_scripts(page)),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }


class RequestGuard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        address: where the server listens.
        headers: of every answer, its own refusals included.
    """

    def __init__(self, app: Application, address: str, headers: Mapping[str, str]) -> None:
        self._app = app
        self._address = address
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not is_known(hosts[0], self._address):
            await self._refuse(scope, receive, send)
            return

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in self._headers}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in own]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        await self._app(scope, receive, sending)

    async def _refuse(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        told = [(b"content-type", b"text/plain; charset=utf-8"), *self._headers]
        await send({"type": "http.response.start", "status": 403, "headers": told})
        await send({"type": "http.response.body", "body": b"This server is not known by that name.\n"})
