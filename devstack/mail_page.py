"""The page that shows the mails which the local stack's mail server took."""

from __future__ import annotations

import re
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from devstack.mail_store import KeptMail, MailStore

_LINK = re.compile(r"https?://[^\s<>\"']+")
# A mail is a stranger's text even here: it runs nothing and fetches nothing.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #ccc; padding: .4rem; text-align: left; }
pre { background: #f5f5f5; overflow-x: auto; padding: 1rem; white-space: pre-wrap; }
iframe { border: 1px solid #ccc; height: 40rem; width: 100%; }
@media (prefers-color-scheme: dark) {
    body { background: #1c1c1c; color: #ddd; } a { color: #8cf; }
    pre { background: #2a2a2a; } iframe { background: #fff; }
}
"""


class MailPage:
    """A web server on this machine; its address ends in the key, without which it shows nothing."""

    def __init__(self, store: MailStore, port: int, key: str) -> None:
        self.url = f"http://127.0.0.1:{port}/{key}/"
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(store, key))
        self._server.daemon_threads = True
        self._thread: Thread | None = None

    def start(self) -> None:
        """Serve, in a thread."""
        self._thread = Thread(target=self._server.serve_forever, name="mail-page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        if self._thread is not None:
            self._server.shutdown()
        self._server.server_close()


def _handler(store: MailStore, key: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET."""

        def do_GET(self) -> None:
            """The list, or a mail."""
            answer = _answer(store, key, urlsplit(self.path).path.strip("/").split("/"))
            status, kind, policy, body = answer or (HTTPStatus.NOT_FOUND, "text/plain", _PAGE_POLICY, "Not found.\n")
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Security-Policy", policy)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing: the terminal is for the platform."""

    return Handler


_Answer = tuple[HTTPStatus, str, str, str]


def _answer(store: MailStore, key: str, path: list[str]) -> _Answer | None:
    if path[0] != key:
        return None
    if len(path) == 1:
        return HTTPStatus.OK, "text/html", _PAGE_POLICY, _list_page(store, key)
    mail = store.get(path[1])
    if mail is None:
        return None
    if len(path) == 2:
        return HTTPStatus.OK, "text/html", _PAGE_POLICY, _mail_page(mail, f"/{key}")
    if path[2] == "source":
        return HTTPStatus.OK, "text/plain", _PAGE_POLICY, mail.source.decode(errors="replace")
    html = mail.part("html") if path[2] == "html" else None
    return None if html is None else (HTTPStatus.OK, "text/html", _MAIL_POLICY, f'<base target="_blank">{html}')


def _list_page(store: MailStore, key: str) -> str:
    rows = "".join(
        f"<tr><td>{mail.arrived_at:%Y-%m-%d %H:%M:%S}</td><td>{_header(mail, 'To')}</td>"
        f'<td><a href="/{key}/{mail.name}">{_header(mail, "Subject") or "(no subject)"}</a></td></tr>'
        for mail in store.all()
    )
    table = f"<table><tr><th>Arrived (UTC)</th><th>To</th><th>Subject</th></tr>{rows}</table>"
    return _page("Mails", table if rows else "<p>None yet. This page renews itself.</p>", renews=True)


def _mail_page(mail: KeptMail, base: str) -> str:
    headers = "".join(
        f"<tr><th>{name}</th><td>{_linked(str(mail.message[name]))}</td></tr>"
        for name in ("From", "To", "Subject", "Date", "List-Unsubscribe", "Message-ID")
        if mail.message[name]
    )
    text = mail.part("plain")
    parts = [
        f'<p><a href="{base}/">All mails</a> · <a href="{base}/{mail.name}/source">Source</a></p>',
        f"<table>{headers}</table>",
        "" if text is None else f"<h2>Text</h2><pre>{_linked(text)}</pre>",
    ]
    if mail.part("html") is not None:
        sandbox = "allow-popups allow-popups-to-escape-sandbox"
        parts.append(f'<h2>HTML</h2><iframe sandbox="{sandbox}" src="{base}/{mail.name}/html"></iframe>')
    return _page(str(mail.message["Subject"] or "Mail"), "".join(parts))


def _header(mail: KeptMail, name: str) -> str:
    return escape(str(mail.message[name] or ""))


def _linked(text: str) -> str:
    """The text in HTML, with its web addresses as links."""
    parts, end = [], 0
    for found in _LINK.finditer(text):
        link = escape(found[0])
        parts += [escape(text[end : found.start()]), f'<a href="{link}" target="_blank" rel="noreferrer">{link}</a>']
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def _page(title: str, body: str, *, renews: bool = False) -> str:
    renewal = '<meta http-equiv="refresh" content="5">' if renews else ""
    head = f'<meta charset="utf-8">{renewal}<title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>\n'
