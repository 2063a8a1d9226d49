"""Faults of the network and of the servers on it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from support import fault_server as server
from support.fault import CARRYING, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fault_server import Handler
    from support.start_pod import StartPod

GROUP = "network"
INDEX = "APEX_INSTALL_INDEX_URL"


def _serving(*handlers: Handler) -> Callable[[StartPod], object]:
    return lambda pod: pod.serve(*handlers)


def _as_wheel(change: Callable[[bytes], Handler]) -> Callable[[StartPod], object]:
    return lambda pod: pod.serve_wheel(change)


def _refused(pod: StartPod) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pod.set(**{INDEX: f"http://127.0.0.1:{taken.getsockname()[1]}/"})


def _never_accepting(pod: StartPod) -> None:
    """A queue of one that is full: the kernel drops whoever knocks, as a firewall does."""
    listener = pod.stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        knock = pod.stack.enter_context(socket.socket())
        knock.setblocking(False)  # noqa: FBT003 - the socket module's own
        with suppress(BlockingIOError):
            knock.connect(listener.getsockname())
    pod.set(**{INDEX: f"http://127.0.0.1:{listener.getsockname()[1]}/"})


def _dropped(pod: StartPod) -> None:
    pod.set(**{INDEX: "http://127.0.0.1:8/"})
    drop = "ip link set lo up; iptables -A OUTPUT -p tcp --dport 8 -j DROP"
    pod.in_namespace(drop, network=True)
    for name in ("ip", "iptables"):
        pod.link_tool(name)


def _no_network(pod: StartPod) -> None:
    pod.set(**{INDEX: "https://example.invalid/"})
    pod.in_namespace(":", network=True)


def _silent_resolver(pod: StartPod) -> None:
    resolver = pod.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    resolver.bind(("127.0.0.77", 53))
    (pod.root / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:30\n")
    mount = f'mount --bind "{pod.root}/resolv.conf" "$(readlink -f /etc/resolv.conf)"'
    pod.link_tool("readlink")
    pod.in_namespace(mount)
    pod.set(**{INDEX: "https://index.example.com/"})


def _broken_tls(pod: StartPod) -> None:
    pod.serve(server.answer(b"{}"))
    pod.set(**{INDEX: pod.environ[INDEX].replace("http:", "https:")})


def _self_signed(pod: StartPod) -> None:
    key, certificate = pod.root / "key.pem", pod.root / "certificate.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *words, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    _listen(pod, lambda connection: context.wrap_socket(connection, server_side=True).close())


def _handshake_stalls(pod: StartPod) -> None:
    ended = threading.Event()
    pod.stack.callback(ended.set)
    _listen(pod, lambda _: ended.wait(60) and None)


def _listen(pod: StartPod, serve: Callable[[socket.socket], object]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()

    def end() -> None:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)

    pod.stack.callback(end)
    pod.set(**{INDEX: f"https://127.0.0.1:{listener.getsockname()[1]}/"})


def _redirect_loop(pod: StartPod) -> None:
    served = pod.serve(server.status("404 Not Found"))
    at = next(iter(served.handlers))
    served.handlers[at] = server.redirect(at, "301 Moved Permanently")


def _proxy(pod: StartPod) -> None:
    """A proxy that nobody answers at, for addresses that need none."""
    pod.set(http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9", ALL_PROXY="socks:9")


NETWORK = (
    Fault("none at all", GROUP, lambda _: None, "wheel", sample=True),
    Fault("connection refused", GROUP, _refused, "python-only", CARRYING, sample=True),
    Fault("black hole: a full queue", GROUP, _never_accepting, "python-only", CARRYING),
    Fault("black hole: every packet dropped", GROUP, _dropped, "python-only", CARRYING,
          needs=("unshare", "iptables", "ip")),
    Fault("no network at all", GROUP, _no_network, "python-only", CARRYING, needs=("unshare",)),
    Fault("name server is silent", GROUP, _silent_resolver, "python-only", CARRYING, sample=True,
          needs=("unshare", "mount")),
    Fault("no such host", GROUP, lambda pod: pod.set(**{INDEX: "https://no.invalid/"}),
          "python-only", CARRYING),
    Fault("server never answers", GROUP, _serving(server.silent()), "none", sample=True),
    Fault("body never comes", GROUP, _serving(server.silent(head=True)), "none"),
    Fault("body drips", GROUP, _serving(server.drip(b"{" * 500)), "none"),
    Fault("headers drip", GROUP, _serving(server.drip(b"{", head=True)), "python-only", CARRYING,
          sample=True),
    Fault("body without end", GROUP, _serving(server.endless()), "none"),
    Fault("headers without end", GROUP, _serving(server.endless(head=True)), "none"),
    Fault("chunks without end", GROUP, _serving(server.chunked(b"{}", ends=False)), "none"),
    Fault("503, Retry-After 3600", GROUP,
          _serving(server.status("503 Busy", **{"Retry-After": 3600})), "none", sample=True),
    Fault("503, Retry-After garbage", GROUP,
          _serving(server.status("503 Busy", **{"Retry-After": "soon"})), "none"),
    Fault("429, Retry-After 86400", GROUP,
          _serving(server.status("429 Too Many", **{"Retry-After": 86400})), "none"),
    Fault("500 for ever", GROUP, _serving(server.status("500 Oops")), "none"),
    Fault("403", GROUP, _serving(server.status("403 Forbidden")), "none"),
    Fault("redirect to itself", GROUP, _redirect_loop, "python-only", CARRYING),
    Fault("redirect to plain http elsewhere", GROUP,
          _serving(server.redirect("http://192.0.2.1/x")), "python-only", CARRYING),
    Fault("redirect to a file", GROUP, _serving(server.redirect("file:///etc/passwd")), "none"),
    Fault("broken TLS", GROUP, _broken_tls, "none"),
    Fault("certificate of its own", GROUP, _self_signed, "none", needs=("openssl",)),
    Fault("TLS handshake stalls", GROUP, _handshake_stalls, "none"),
    Fault("reset in the body", GROUP, _serving(server.reset_after(b"{", announced=99)), "none"),
    Fault("status line is garbage", GROUP, _serving(server.raw(b"\0\1\2\r\n\r\n")), "none"),
    Fault("sign-in page in place of the index", GROUP, _serving(server.answer(b"<html>")), "none",
          sample=True),
    Fault("wheel reset once", GROUP, _as_wheel(lambda data: server.then(
        server.reset_after(data[:99], announced=len(data)), server.ranges(data))), "wheel"),
    Fault("wheel cut off, continued", GROUP,
          _as_wheel(lambda data: server.ranges(data, cut_after=99)), "wheel", sample=True),
    Fault("wheel continued elsewhere than it says", GROUP,
          _as_wheel(lambda data: server.ranges(data, cut_after=99, offset=7)), ("none", "wheel")),
    Fault("wheel drips", GROUP, _as_wheel(server.drip), "python-only", CARRYING),
    Fault("wheel of another size", GROUP, _as_wheel(lambda _: server.silent(head=True)), "none"),
    Fault("wheel compressed unasked", GROUP, _as_wheel(
        lambda data: server.answer(data, **{"Content-Encoding": "gzip"})), ("none", "wheel")),
    Fault("wheel is a sign-in page", GROUP, _as_wheel(lambda _: server.answer(b"<html>")), "none"),
    Fault("a proxy that is not there", GROUP, _proxy, "wheel"),
)  # fmt: skip
