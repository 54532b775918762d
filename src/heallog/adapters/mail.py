"""Letters by SMTP, on the developer's screen, or in memory.

Nothing of a letter, and no password, gets into a log or a message: what libraries and servers say is not passed on, for
it may repeat them. Kept are the name of an error and the code of a reply.
"""

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as STANDARD
from email.utils import format_datetime, make_msgid
from ipaddress import ip_address
from operator import attrgetter
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import stamina
import structlog
from aiosmtplib import SMTP, SMTPRecipientsRefused, SMTPResponseException
from email_validator import validate_email
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from heallog.application.ports.mail import Letter, Mail
from heallog.application.ports.world import Clock

MOST_WAITING = 1_000
"""Letters that may wait; beyond that they are dropped, for the server does not keep up."""

OLDEST = timedelta(minutes=15)
"""The codes in a letter of this age are worthless."""

LAST = 5.0
"""Seconds that waiting letters have when the application ends."""

_PORTS = {"smtp": 587, "smtps": 465}


class ConsoleMail:
    """Prints letters, for whoever tries things out and needs the code in them."""

    def post(self, letter: Letter) -> None:
        # A screen that is gone, or lacks a character, is no reason to refuse a request.
        with suppress(OSError, ValueError):
            head = f"To: {_line(letter.to)}\nSubject: {_line(letter.subject)}"
            print(f"---- mail ----\n{head}\n\n{letter.text.rstrip()}\n--------------", flush=True)


class MemoryMail:
    """Keeps letters."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def post(self, letter: Letter) -> None:
        self.letters.append(letter)

    def to(self, address: str) -> list[Letter]:
        return [letter for letter in self.letters if letter.to == address]


@dataclass(frozen=True, slots=True)
class Server:
    """Where letters are handed in. Without `trust` they go in clear; `implicit` is TLS from the first byte."""

    host: str
    port: int
    implicit: bool
    trust: ssl.SSLContext | None = field(repr=False, compare=False)
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)


def server(url: str) -> Server:
    """The server that a URL means. Raises ValueError, which never repeats the URL: there is a password in it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        parts, host, port, asked = urlsplit(""), None, None, []
    if parts.scheme not in _PORTS or not host or port == 0 or parts.path not in {"", "/"} or parts.fragment:
        raise ValueError("must be smtp://user:password@host:port, or smtps://, with special characters percent-encoded")
    implicit, options = parts.scheme == "smtps", dict(asked)
    tls = options.get("tls", "on" if implicit or "cafile" in options or not _loopback(host) else "off")
    if options.keys() - {"tls", "cafile"} or len(options) < len(asked) or tls not in {"on", "off"}:
        raise ValueError("takes tls=on, tls=off and cafile=..., each once, after the question mark")
    if tls == "off" and (implicit or "cafile" in options):
        raise ValueError("takes tls=off neither with smtps:// nor with a cafile")
    if bool(parts.username) != bool(parts.password):
        raise ValueError("needs user and password, or neither")
    trust = _trust(options.get("cafile")) if tls == "on" else None
    user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    return Server(host, port or _PORTS[parts.scheme], implicit, trust, user, password)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(cafile: str | None) -> ssl.SSLContext:
    """Whose certificates are believed: those of the system, or of one file."""
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ValueError):
        raise ValueError("names a cafile that is not there or holds no certificates") from None


@dataclass(frozen=True, slots=True)
class _Posted:
    """A letter on its way. Its id stays the same however often it is sent: who gets it twice can tell."""

    letter: Letter = field(repr=False)
    at: datetime
    id: str


class _Trouble(Exception):
    """What went wrong, safe to log: stamina does. `inside`: with this letter, after the server had let us in."""

    def __init__(self, error: Exception, inside: bool) -> None:
        answer = error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error
        cause = error.__cause__ or error
        self.type = type(cause).__qualname__
        self.code = answer.code if isinstance(answer, SMTPResponseException) else None
        # Connections refused or lost, and timeouts, are all OSErrors.
        lost = isinstance(error, OSError) and not isinstance(cause, ssl.CertificateError)
        self.passes = lost if self.code is None else not 500 <= self.code < 600
        self.inside, self.refused = inside, inside and not self.passes
        super().__init__(self.type, self.code)


class SmtpMail:
    """Sends letters one after another, beside the requests. They wait in memory: what waits in a crash is lost.

    A server that cannot be reached, or lets nobody in, is tried again after a pause, and letters wait in their order. A
    letter that the server will not have now is tried again after all others, so that it delays none of them.
    """

    def __init__(
        self,
        url: str,
        sender: str,
        *,
        clock: Clock,
        timeout: float = 30.0,
        attempts: int = 3,
        wait: float = 1.0,
        failures: int = 3,
        pause: float = 30.0,
        last: float = LAST,
        most: int = MOST_WAITING,
        oldest: timedelta = OLDEST,
    ) -> None:
        self._server, self._sender, self._clock = server(url), address(sender), clock
        self._timeout, self._pause, self._last = timeout, pause, last
        self._most, self._oldest = most, oldest
        self._log = structlog.get_logger("heallog.mail")
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=failures, default_ttl=pause, exclude=[(_Trouble, attrgetter("refused"))]
        )
        self._retried = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=None, wait_initial=wait, wait_max=8 * wait, wait_jitter=wait
        ).on(lambda error: isinstance(error, _Trouble) and error.passes)
        self._fresh: deque[_Posted] = deque()
        self._again: deque[_Posted] = deque()
        self._stirred, self._over = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def post(self, letter: Letter) -> None:
        if len(self._fresh) + len(self._again) >= self._most:
            self._log.warning("mail_dropped", type="full", count=1)
            return
        self._fresh.append(_Posted(letter, self._clock(), make_msgid(domain=self._sender.domain)))
        self._stirred.set()

    async def start(self) -> None:
        if self._task is None:
            self._stirred, self._over = asyncio.Event(), asyncio.Event()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends within `last` seconds, at once where the server is given up for now. What is left is lost."""
        if self._task is not None:
            self._over.set()
            self._stirred.set()
            await asyncio.wait([self._task], timeout=self._last)
            # Again, should a library swallow it.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=1)
            self._task = None
        if left := len(self._fresh) + len(self._again):
            self._log.warning("mail_dropped", type="stopped", count=left)
            self._fresh.clear()
            self._again.clear()

    async def _run(self) -> None:
        while True:
            line = self._fresh or self._again
            if line and self._clock() - line[0].at > self._oldest:
                line.popleft()
                self._log.warning("mail_dropped", type="old", count=1)
            elif line:
                try:
                    await self._turn(line)
                except OpenedState as opened:
                    self._log.warning("mail_paused", count=len(self._fresh) + len(self._again))
                    # The breaker goes by the system's time, which may have been set back.
                    rest = min(opened.opened_at + self._pause - time.time(), self._pause)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._over.wait(), rest)
                    if self._over.is_set():
                        return
            elif self._over.is_set():
                return
            else:
                self._stirred.clear()
                await self._stirred.wait()

    async def _turn(self, line: deque[_Posted]) -> None:
        """Tries to send the first in a line. It stays the first where the server is to blame."""
        try:
            async with await self._breakers.get_breaker("mail"):
                # Without arguments: stamina's log has those of what it calls.
                await self._retried(lambda: self._hand_in(line[0]))
        except _Trouble as trouble:
            self._log.warning(
                "mail_refused" if trouble.refused else "mail_failed", type=trouble.type, number=trouble.code
            )
            if not trouble.inside:
                return
            if trouble.passes:
                self._again.append(line[0])
        line.popleft()

    async def _hand_in(self, posted: _Posted) -> None:
        to = self._server
        # The name of this machine would be asked of the DNS, and is nobody's business.
        smtp = SMTP(local_hostname=self._sender.domain, hostname=to.host, port=to.port, timeout=self._timeout)
        inside = False
        try:
            starts = to.trust is not None and not to.implicit
            await smtp.connect(
                use_tls=to.implicit, start_tls=starts, tls_context=to.trust, username=to.user, password=to.password
            )
            inside = True
            made = message(posted.letter, self._sender, posted.at, posted.id)
            await smtp.send_message(made, sender=self._sender.addr_spec, recipients=made["To"].addresses[0].addr_spec)
            # It is delivered, however the leave-taking goes.
            with suppress(Exception):
                await smtp.quit()
        except Exception as error:
            raise _Trouble(error, inside) from None
        finally:
            smtp.close()


def message(letter: Letter, sender: Address, at: datetime, id: str) -> EmailMessage:
    """A letter as it is sent. Raises ValueError where it cannot be."""
    made = EmailMessage(policy=STANDARD)
    made["From"] = sender
    made["To"] = address(letter.to)
    made["Subject"] = _line(letter.subject)
    made["Date"] = format_datetime(at)
    made["Message-ID"] = id
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(letter.text, cte="quoted-printable")
    return made


def _line(text: str) -> str:
    """One line, whatever it was. What looks like an encoded word would be decoded, line breaks and all."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).replace("=?", "= ?")


def address(text: str) -> Address:
    """One address, alone or in angle brackets after a name. Raises ValueError, which does not repeat it."""
    name, bracket, spec = text.rpartition("<")
    try:
        spec = spec[:-1] if bracket + spec[-1:] == "<>" else bracket + spec
        found = validate_email(spec, check_deliverability=False, test_environment=True)
    except ValueError:
        raise ValueError("not an e-mail address") from None
    # Before the @ letters beyond ASCII need a server that takes SMTPUTF8; after it they never do.
    return Address(_line(name.replace('"', "")), found.ascii_local_part or found.local_part, found.ascii_domain)


if TYPE_CHECKING:
    _: tuple[type[Mail], ...] = (ConsoleMail, MemoryMail, SmtpMail)
