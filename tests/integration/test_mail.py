"""Letters reach a real SMTP server, once and in their order, or they are kept; and nothing of them is told."""

import asyncio
import gc
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from heallog.adapters.logs import ALLOWED
from heallog.adapters.mail import SmtpMail
from heallog.application.ports.mail import Letter

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENDER = "HealLog <no-reply@hillside.example>"
PATIENCE = 30
"""Seconds after which a test has failed rather than waits. Nothing depends on them."""

DROP, HANG = "drop", "hang"
"""What a server does instead of answering."""


class Signal:
    """Waits until something has come true that only changes when it is told so."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        self._changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._changed.clear()
                await self._changed.wait()


class Office(Signal):
    """A post office: aiosmtpd on loopback. It answers what it is told to answer, and else takes letters."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        implicit: bool = False,
        password: str | None = None,
        careless: bool = False,
    ) -> None:
        super().__init__()
        self.letters: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.heard = b""
        self.calls: list[str] = []
        self.answers: dict[str, deque[str | None]] = {name: deque() for name in ("RCPT", "MAIL", "DATA", "QUIT")}
        self.always: dict[str, str] = {}
        self._implicit = tls if implicit else None
        self._options: dict[str, Any] = {"hostname": "mail.test", "enable_SMTPUTF8": True}
        if tls is not None and not implicit:
            self._options |= {"tls_context": tls, "require_starttls": True}
        if password is not None:
            self._options |= {
                "auth_required": True,
                "authenticator": self._authenticate,
                "auth_require_tls": not careless,
            }
        self._password = password
        self._listening: asyncio.Server | None = None
        self._open: set[asyncio.BaseTransport] = set()

    async def start(self, port: int = 0) -> int:
        office = self

        class Desk(SMTP):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                office._open.add(transport)
                if self.session is None:
                    office.calls.append("CONNECT")
                super().connection_made(transport)

            def data_received(self, data: bytes) -> None:
                office.heard += data
                super().data_received(data)

        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: Desk(self, loop=loop, **self._options), "127.0.0.1", port, ssl=self._implicit
        )
        return self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Gone at once, whoever is talking."""
        if self._listening is not None:
            self._listening.close()
            for transport in self._open:
                transport.abort()
            await self._listening.wait_closed()

    async def arrived(self, count: int) -> None:
        await self.until(lambda: len(self.letters) >= count)

    def texts(self) -> list[str]:
        return [letter.get_content().strip() for letter in self.letters]

    async def _answer(self, server: SMTP, name: str, usual: str) -> str:
        self.calls.append(name)
        self.tell()
        answer = (self.answers[name].popleft() if self.answers[name] else None) or usual
        if answer == DROP:
            server.transport.abort()
        if answer in {DROP, HANG}:
            await asyncio.Event().wait()  # until the connection is gone
        return answer

    async def handle_MAIL(self, server: SMTP, _: Any, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.mail_from, envelope.mail_options = address, options
        return await self._answer(server, "MAIL", "250 OK")

    async def handle_RCPT(self, server: SMTP, _: Any, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        answer = await self._answer(server, "RCPT", self.always.get(address, "250 OK"))
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, _: Any, envelope: Envelope) -> str:  # noqa: N802
        answer = await self._answer(server, "DATA", "250 OK")
        if answer.startswith("250"):
            self.letters.append(message_from_bytes(envelope.content, _class=EmailMessage, policy=policy.default))
            self.envelopes.append(envelope)
            self.tell()
        return answer

    async def handle_QUIT(self, server: SMTP, *_: Any) -> str:  # noqa: N802
        return await self._answer(server, "QUIT", "221 Bye")

    def _authenticate(self, *given: Any) -> AuthResult:
        login = given[-1]
        assert isinstance(login, LoginPassword)
        self.calls.append("AUTH")
        right = login.login == b"heallog" and login.password.decode() == self._password
        return AuthResult(success=right, handled=False)


class Heard(Signal):
    """What is logged, as it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        self.lines.append(dict(event))
        self.tell()
        return event

    def named(self, name: str) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in line.items() if key != "event"}
            for line in self.lines
            if line["event"] == name
        ]

    async def until_named(self, name: str, count: int = 1) -> None:
        await self.until(lambda: len(self.named(name)) >= count)


class Hands:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def heard() -> Iterator[Heard]:
    listening = Heard()
    with capture_logs(processors=[listening]):
        yield listening


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    opened = Office()
    yield opened
    await opened.stop()


@asynccontextmanager
async def opened(office: Office) -> AsyncIterator[int]:
    port = await office.start()
    try:
        yield port
    finally:
        await office.stop()


@asynccontextmanager
async def posting(where: str, **given: Any) -> AsyncIterator[SmtpMail]:
    """Mail that waits no longer than it must."""
    mail = SmtpMail(where, SENDER, **{"clock": Hands(), "wait": 0, "pause": 0.001, "timeout": PATIENCE, **given})
    await mail.start()
    try:
        yield mail
    finally:
        async with asyncio.timeout(PATIENCE):
            await mail.stop()


async def turns() -> None:
    """Lets whoever can go on do so: turns of the loop, not time."""
    for _ in range(50):
        await asyncio.sleep(0)


def letter(number: int) -> Letter:
    return Letter(f"person-{number}@hillside.example", "Your code", f"The code is {number}.")


# -- certificates -------------------------------------------------------------------------------------------------


def certified(folder: Path, name: str, *addresses: str) -> tuple[ssl.SSLContext, str]:
    """A server's side of TLS by a self-signed certificate, and the query of a URL that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    ) | {"digital_signature": True, "key_cert_sign": True, "encipher_only": False, "decipher_only": False}
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(a)) for a in addresses] or [x509.DNSName(name)]),
            False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, f"?cafile={public}"


Certified = tuple[ssl.SSLContext, str]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certified(tmp_path_factory.mktemp("ours"), "ours", "127.0.0.1")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certified(tmp_path_factory.mktemp("strangers"), "strangers", "127.0.0.1")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certified(tmp_path_factory.mktemp("elsewhere"), "elsewhere.example")


# -- delivery -----------------------------------------------------------------------------------------------------


async def test_a_letter_arrives(office: Office) -> None:
    port = await office.start()
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        mail.post(Letter("mei@hillside.example", "Your code", "The code is 123456.\n.\nIt is yours alone."))
        await office.arrived(1)
    (got,), (envelope,) = office.letters, office.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@hillside.example", ["mei@hillside.example"])
    assert (got["From"], got["To"], got["Subject"]) == (SENDER, "mei@hillside.example", "Your code")
    assert got["Date"].datetime == NOON
    assert got["Message-ID"].endswith("@hillside.example>")
    assert got["Auto-Submitted"] == "auto-generated"
    assert (got.get_content_type(), got.get_content_charset()) == ("text/plain", "utf-8")
    assert got.get_content().splitlines() == ["The code is 123456.", ".", "It is yours alone."]


async def test_a_letter_arrives_that_nobody_was_waiting_for(office: Office) -> None:
    port = await office.start()
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        for number in range(2):
            await turns()
            mail.post(letter(number))
            await office.arrived(number + 1)
            await office.until(lambda: office.calls[-1] == "QUIT")
    assert office.texts() == ["The code is 0.", "The code is 1."]


async def test_other_alphabets_arrive_intact(office: Office) -> None:
    port = await office.start()
    subject, text = "Votre code — 您的代码 " + "né " * 40, "Ваш код: 123456 🩺\n" + "ü" * 500
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        mail.post(Letter("Rafael Núñez <rafael@hillside.example>", subject, text))
        mail.post(Letter("rené@münchen.example", subject, text))
        await office.arrived(2)
    for got in office.letters:
        assert got["Subject"] == subject.strip()
        assert got.get_content().splitlines() == text.splitlines()
    assert office.letters[0]["To"].addresses[0].display_name == "Rafael Núñez"
    assert [envelope.rcpt_tos for envelope in office.envelopes] == [
        ["rafael@hillside.example"],
        ["rené@xn--mnchen-3ya.example"],
    ]


async def test_line_breaks_add_neither_header_nor_receiver(office: Office, heard: Heard) -> None:
    port = await office.start()
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        mail.post(Letter("mei@hillside.example\r\nBcc: eve@evil.example", "Your code", "123456"))
        mail.post(Letter("mei@hillside.example>\r\nRCPT TO:<eve@evil.example", "Your code", "123456"))
        mail.post(Letter("mei@hillside.example, eve@evil.example", "Your code", "123456"))
        mail.post(Letter("mei@hillside.example", "Your code\r\nBcc: eve@evil.example\r\n\r\nHello", "123456"))
        await office.arrived(1)
    (got,), (envelope,) = office.letters, office.envelopes
    assert envelope.rcpt_tos == ["mei@hillside.example"]
    assert got["Bcc"] is None
    assert got["Subject"] == "Your code Bcc: eve@evil.example Hello"
    assert heard.named("mail_refused") == [{"type": "ValueError", "number": None}] * 3
    assert b"RCPT TO:<eve@evil.example" not in office.heard


async def test_what_waits_is_still_sent_when_the_application_ends(office: Office, heard: Heard) -> None:
    port = await office.start()
    async with posting(f"smtp://127.0.0.1:{port}", last=PATIENCE) as mail:
        for number in range(3):
            mail.post(letter(number))
    assert office.texts() == [f"The code is {number}." for number in range(3)]
    assert heard.lines == []


async def test_what_is_posted_before_the_start_or_between_two_is_sent_once(office: Office) -> None:
    port = await office.start()
    mail = SmtpMail(f"smtp://127.0.0.1:{port}", SENDER, clock=Hands())
    mail.post(letter(1))
    await mail.start()
    await mail.start()
    await office.arrived(1)
    await mail.stop()
    mail.post(letter(2))
    await mail.start()
    await office.arrived(2)
    await mail.stop()
    assert office.texts() == ["The code is 1.", "The code is 2."]


async def test_what_is_too_much_is_dropped_and_the_rest_is_sent(office: Office, heard: Heard) -> None:
    port = await office.start()
    mail = SmtpMail(f"smtp://127.0.0.1:{port}", SENDER, clock=Hands(), most=3)
    for number in range(5):
        mail.post(letter(number))
    await mail.start()
    await office.arrived(3)
    mail.post(letter(5))
    await office.arrived(4)
    await mail.stop()
    assert office.texts() == [f"The code is {number}." for number in (0, 1, 2, 5)]
    assert heard.named("mail_dropped") == [{"type": "full", "count": 1}] * 2


# -- TLS ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning:aiosmtpd")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_password_is_given_inside_tls(scheme: str, ours: Certified) -> None:
    tls, query = ours
    # aiosmtpd would ask for STARTTLS inside TLS.
    office = Office(tls, implicit=scheme == "smtps", password="p/ss wörd", careless=scheme == "smtps")
    async with opened(office) as port:
        url = f"{scheme}://heallog:p%2Fss%20w%C3%B6rd@127.0.0.1:{port}{query}"
        async with posting(url) as mail:
            mail.post(letter(1))
            await office.arrived(1)
    assert office.texts() == ["The code is 1."]
    assert office.calls == ["CONNECT", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning:aiosmtpd")
@pytest.mark.parametrize("password", ["secret", None])
async def test_without_starttls_neither_password_nor_letter_is_told(password: str | None, heard: Heard) -> None:
    office = Office(password=password, careless=True)
    login = f"heallog:{password}@" if password else ""
    async with opened(office) as port, posting(f"smtp://{login}127.0.0.1:{port}?tls=on") as mail:
        mail.post(letter(1))
        await heard.until_named("mail_paused")
    assert set(office.calls) == {"CONNECT"}
    assert {line.split()[0] for line in office.heard.splitlines()} == {b"EHLO"}
    assert heard.named("mail_failed")[0] == {"type": "SMTPException", "number": None}
    assert heard.named("stamina.retry_scheduled") == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("other", ["strangers", "elsewhere"])
async def test_a_wrong_certificate_is_told_nothing(
    scheme: str, other: str, heard: Heard, ours: Certified, request: pytest.FixtureRequest
) -> None:
    wrong: Certified = request.getfixturevalue(other)
    # A stranger's certificate names this host but is nobody's we know; the other is known and names another host.
    query = ours[1] if other == "strangers" else wrong[1]
    office = Office(wrong[0], implicit=scheme == "smtps", password="secret")
    async with opened(office) as port, posting(f"{scheme}://heallog:secret@127.0.0.1:{port}{query}") as mail:
        mail.post(letter(1))
        await heard.until_named("mail_paused")
    assert {"AUTH", "MAIL"}.isdisjoint(office.calls)
    assert heard.named("mail_failed")[0] == {"type": "SSLCertVerificationError", "number": None}
    assert heard.named("stamina.retry_scheduled") == []


async def test_a_wrong_password_is_not_tried_over_and_over(heard: Heard, ours: Certified) -> None:
    office = Office(ours[0], password="right")
    url = "smtp://heallog:wrong@127.0.0.1:{}" + ours[1]
    async with opened(office) as port, posting(url.format(port), failures=2, pause=3600) as mail:
        mail.post(letter(1))
        mail.post(letter(2))
        await heard.until_named("mail_paused")
    assert office.calls.count("CONNECT") == 2
    assert "MAIL" not in office.calls
    assert heard.named("mail_failed") == [{"type": "SMTPAuthenticationError", "number": 535}] * 2
    assert heard.named("mail_dropped") == [{"type": "stopped", "count": 2}]


# -- what a server answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["451 later", "421 going", DROP])
async def test_trouble_that_passes_is_met_by_trying_again(
    command: str, answer: str, office: Office, heard: Heard
) -> None:
    port = await office.start()
    office.answers[command].extend([answer, answer])
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        mail.post(letter(1))
        mail.post(letter(2))
        await office.arrived(2)
    assert office.texts() == ["The code is 1.", "The code is 2."]
    assert office.calls.count(command) == 4
    assert heard.named("mail_failed") == []


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_refusal_is_final_and_costs_no_other_letter(command: str, office: Office, heard: Heard) -> None:
    port = await office.start()
    office.answers[command].extend(["550 no"] * 4)
    async with posting(f"smtp://127.0.0.1:{port}", failures=1) as mail:
        for number in range(5):
            mail.post(letter(number))
        await office.arrived(1)
    assert office.texts() == ["The code is 4."]
    assert office.calls.count(command) == 5
    assert [line["number"] for line in heard.named("mail_refused")] == [550] * 4
    assert heard.named("mail_paused") == heard.named("mail_failed") == []
    assert heard.lines[0].keys() - {"log_level"} <= ALLOWED


async def test_a_letter_that_is_not_taken_now_delays_no_other(office: Office, heard: Heard) -> None:
    port = await office.start()
    office.always = {f"person-{number}@hillside.example": "452 mailbox full" for number in (0, 1)}
    async with posting(f"smtp://127.0.0.1:{port}", attempts=2) as mail:
        for number in range(4):
            mail.post(letter(number))
        await heard.until_named("mail_paused", 2)
        assert office.texts() == ["The code is 2.", "The code is 3."]
        mail.post(letter(4))
        await office.arrived(3)
        office.always.clear()
        mail.post(letter(5))
        await office.arrived(6)
    # At most one of the two that had to wait was being tried when the last was posted.
    assert sorted(office.texts()) == [f"The code is {number}." for number in range(6)]
    assert "The code is 5." in office.texts()[3:5]


async def test_what_was_taken_is_not_sent_again_however_the_server_takes_leave(office: Office, heard: Heard) -> None:
    port = await office.start()
    office.answers["QUIT"].extend([DROP, "500 what?"])
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        for number in range(3):
            mail.post(letter(number))
        await office.arrived(3)
    assert office.texts() == ["The code is 0.", "The code is 1.", "The code is 2."]
    assert heard.lines == []


async def test_a_silent_server_is_not_waited_for(office: Office, heard: Heard) -> None:
    port = await office.start()
    office.answers["RCPT"].append(HANG)
    async with posting(f"smtp://127.0.0.1:{port}", timeout=0.05, attempts=1, failures=100) as mail:
        mail.post(letter(1))
        await office.arrived(1)
    assert heard.named("mail_failed")[0] == {"type": "TimeoutError", "number": None}


# -- a server that is down ----------------------------------------------------------------------------------------


async def test_letters_wait_for_a_dead_server_and_arrive_once_in_their_order(
    office: Office, heard: Heard, free_port: int
) -> None:
    async with posting(f"smtp://127.0.0.1:{free_port}") as mail:
        for number in range(4):
            mail.post(letter(number))
        await heard.until_named("mail_paused", 2)
        mail.post(letter(4))
        await office.start(free_port)
        await office.arrived(5)
        mail.post(letter(5))
        await office.arrived(6)
    assert office.texts() == [f"The code is {number}." for number in range(6)]
    assert heard.named("mail_failed")[0] == {"type": "ConnectionRefusedError", "number": None}
    assert heard.named("mail_dropped") == []


async def test_a_dead_server_is_left_alone_for_a_while(heard: Heard) -> None:
    calls = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with posting(f"smtp://127.0.0.1:{port}", attempts=3, failures=2, pause=3600, last=3600) as mail:
            for number in range(4):
                mail.post(letter(number))
            await heard.until_named("mail_paused")
            mail.post(letter(4))
            await turns()
    assert calls == 6
    assert heard.named("mail_paused") == [{"count": 4}]
    assert heard.named("mail_dropped") == [{"type": "stopped", "count": 5}]


async def test_a_server_that_goes_in_the_middle_loses_nothing(office: Office, heard: Heard) -> None:
    port = await office.start()
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        office.answers["DATA"].extend([None, HANG])
        for number in range(4):
            mail.post(letter(number))
        await office.until(lambda: office.calls.count("DATA") == 2)
        await office.stop()
        await heard.until_named("mail_paused")
        await office.start(port)
        await office.arrived(4)
    assert office.texts() == [f"The code is {number}." for number in range(4)]
    assert len({got["Message-ID"] for got in office.letters}) == 4


async def test_a_letter_that_arrives_twice_can_be_told(office: Office) -> None:
    """The server has it, but its answer is lost: there is no knowing, so it is sent again under the same id."""
    port = await office.start()
    taken = office._answer

    async def lost(server: SMTP, name: str, usual: str) -> str:
        if name == "DATA" and office.calls.count("DATA") == 0:
            office.letters.append(EmailMessage())
            office.letters[0]["Message-ID"] = next(
                line for line in server.envelope.content.decode().splitlines() if line.startswith("Message-ID")
            ).partition(": ")[2]
            office.answers["DATA"].append(DROP)
        return await taken(server, name, usual)

    office._answer = lost  # type: ignore[method-assign]
    async with posting(f"smtp://127.0.0.1:{port}") as mail:
        mail.post(letter(1))
        await office.arrived(2)
    first, second = office.letters
    assert first["Message-ID"] == second["Message-ID"]


async def test_a_code_that_has_run_out_is_not_sent(office: Office, heard: Heard, free_port: int) -> None:
    clock = Hands()
    async with posting(f"smtp://127.0.0.1:{free_port}", clock=clock, oldest=timedelta(minutes=15)) as mail:
        mail.post(letter(0))
        mail.post(letter(1))
        await heard.until_named("mail_paused")
        clock.now = NOON + timedelta(minutes=10)
        mail.post(letter(2))
        clock.now = NOON + timedelta(minutes=15)
        await heard.until_named("mail_paused", 1 + len(heard.named("mail_paused")))
        assert heard.named("mail_dropped") == []
        clock.now += timedelta(milliseconds=1)
        await heard.until_named("mail_dropped", 2)
        await office.start(free_port)
        await office.arrived(1)
    assert office.texts() == ["The code is 2."]
    assert office.letters[0]["Date"].datetime == NOON + timedelta(minutes=10)
    assert heard.named("mail_dropped") == [{"type": "old", "count": 1}] * 2


@pytest.mark.parametrize("command", ["MAIL", "DATA", "QUIT"])
async def test_a_hanging_server_does_not_keep_the_application(
    command: str, office: Office, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    port = await office.start()
    office.answers[command].append(HANG)
    mail = SmtpMail(f"smtp://127.0.0.1:{port}", SENDER, clock=Hands(), timeout=3600, last=0)
    await mail.start()
    mail.post(letter(1))
    mail.post(letter(2))
    await office.until(lambda: command in office.calls)
    async with asyncio.timeout(PATIENCE):
        await mail.stop()
    assert heard.named("mail_dropped") == [{"type": "stopped", "count": 2}]
    assert heard.named("mail_failed") == []
    await mail.stop()
    # A task that ended by an error would say so once it is collected.
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR] == []


async def test_a_long_wait_between_two_tries_does_not_keep_the_application(heard: Heard, free_port: int) -> None:
    mail = SmtpMail(f"smtp://127.0.0.1:{free_port}", SENDER, clock=Hands(), wait=3600, last=0)
    await mail.start()
    mail.post(letter(1))
    await heard.until_named("stamina.retry_scheduled")
    async with asyncio.timeout(PATIENCE):
        await mail.stop()
    assert heard.named("mail_dropped") == [{"type": "stopped", "count": 1}]


# -- nothing is told ----------------------------------------------------------------------------------------------

CANARY = "quietheron"
OFFICE = {"mail.log", "mail.debug"}
"""The loggers of the server, which is not ours: it logs who writes to whom."""


async def test_nothing_of_a_letter_and_no_password_is_ever_logged(
    heard: Heard, ours: Certified, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], free_port: int
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    to = f"{CANARY}@hillside.example"
    echo = f"<{to}>: {CANARY}"
    office = Office(ours[0], password=CANARY)
    for command in ("MAIL", "RCPT", "DATA"):
        office.answers[command].extend([f"451 {echo}", DROP, f"451 {echo}", f"550 {echo}"])
    url = f"smtp://heallog:{{}}@127.0.0.1:{{}}{ours[1]}"
    try:
        async with opened(office) as port:
            async with posting(url.format(CANARY, port), attempts=2, most=8) as mail:
                for _ in range(10):
                    mail.post(Letter(to, CANARY, CANARY))
                mail.post(Letter(f"{CANARY}\r\n@hillside.example", CANARY, CANARY))
                await office.arrived(5)
                mail.post(Letter(f"{CANARY}\r\n@hillside.example", CANARY, CANARY))
                mail.post(Letter(to, CANARY, f"{CANARY}\ud800"))
                await heard.until_named("mail_refused", 5)
            async with posting(url.format(f"not{CANARY}", port)) as mail:
                mail.post(Letter(to, CANARY, CANARY))
                await heard.until_named("mail_paused")
        async with posting(f"smtp://{CANARY}:{CANARY}@127.0.0.1:{free_port}") as mail:
            mail.post(Letter(to, CANARY, CANARY))
            await heard.until_named("mail_paused", 1 + len(heard.named("mail_paused")))
            assert CANARY not in repr(mail) + repr(vars(mail))
    finally:
        asyncio.get_running_loop().set_debug(False)
    events = {line["event"] for line in heard.lines}
    assert events == {"mail_dropped", "mail_failed", "mail_paused", "mail_refused", "stamina.retry_scheduled"}
    assert CANARY not in repr(heard.lines)
    records = [record for record in caplog.records if record.name not in OFFICE]
    assert CANARY not in repr([(record.getMessage(), vars(record)) for record in records])
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err
