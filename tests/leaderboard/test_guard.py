"""The app answers to its own names only, and says what a browser may do with its answers."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

import pytest
from harness_leaderboard.cli import start, wait
from harness_leaderboard.guard import inline_scripts, is_known, policy


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8501", "localhost:1", "LocalHost", "[::1]:8501", "localhost."]
)
def test_the_own_names_are_known(host: str) -> None:
    assert is_known(host, "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost@evil", "localhost:80:80", "192.168.0.1", "a b", "localhost/x"]
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    assert not is_known(host, "127.0.0.1")


def test_a_server_for_others_takes_addresses_and_its_own_names() -> None:
    for host in ("192.168.0.1:8501", "[fe80::1]", "localhost", socket.gethostname()):
        assert is_known(host, "0.0.0.0")
    assert is_known("results.lab", "results.lab")
    assert not is_known("evil.example", "0.0.0.0")


def test_the_policy_names_inline_scripts_by_their_digest(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text('<script src="./a.js"></script><script>\nok()\n</script>')
    assert inline_scripts(page) == ["\nok()\n"]
    assert re.search(r"script-src [^;]*'sha256-[A-Za-z0-9+/]{43}='", policy(inline_scripts(page)))
    assert "'unsafe-inline'" not in policy([]).partition("style-src")[0] and "'unsafe-eval'" not in policy([])


def test_the_server_checks_host_and_sends_the_headers(filled) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(filled.path, "127.0.0.1", port)
    try:
        wait(process, f"http://127.0.0.1:{port}")
        for path in ("/", "/_stcore/health", "/_stcore/stream", "/static/none"):
            for host, known in ((f"localhost:{port}", True), (f"evil.example:{port}", False), ("192.168.0.1", False)):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                assert (answer.status != 403) == known
                assert answer.headers["X-Frame-Options"] == "DENY"
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        connection.request(
            "GET", "/_stcore/stream", headers={"Host": "evil.example", "Sec-WebSocket-Key": "a" * 22 + "==", **upgrade}
        )
        assert connection.getresponse().status == 403
        connection.close()
    finally:
        process.terminate()
        process.wait()
