"""Letters as they are written, where they can go, and that no URL gives its password away."""

import ssl
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from heallog.adapters.logs import ALLOWED
from heallog.adapters.mail import ConsoleMail, MemoryMail, Server, SmtpMail, address, message, server
from heallog.application.ports.mail import Letter

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENDER = address("HealLog <no-reply@hillside.example>")
LETTER = Letter("mei@hillside.example", "Your code", "The code is 123456.\n")
HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
]


def read(letter: Letter) -> EmailMessage:
    """A letter after its journey."""
    sent = message(letter, SENDER, NOON, "<1@hillside.example>").as_bytes()
    return message_from_bytes(sent, _class=EmailMessage, policy=policy.default)


# -- screen and memory --------------------------------------------------------------------------------------------


def test_the_developer_sees_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleMail().post(LETTER)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == ["To: mei@hillside.example", "Subject: Your code", "", "The code is 123456."]


def test_a_screen_that_cannot_show_a_letter_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleMail().post(Letter("mei@hillside.example", "Your code", "\ud800"))


def test_memory_keeps_letters_in_their_order() -> None:
    mail = MemoryMail()
    other = Letter("amara@hillside.example", "Welcome", "Hello.")
    for letter in (LETTER, other, LETTER):
        mail.post(letter)
    assert mail.letters == [LETTER, other, LETTER]
    assert mail.to("mei@hillside.example") == [LETTER, LETTER]


# -- the letter ---------------------------------------------------------------------------------------------------


def test_a_letter_says_what_it_is() -> None:
    got = read(LETTER)
    assert got.keys() == HEADERS
    assert got["From"] == "HealLog <no-reply@hillside.example>"
    assert got["To"] == "mei@hillside.example"
    assert got["Subject"] == "Your code"
    assert got["Date"].datetime == NOON
    assert got["Auto-Submitted"] == "auto-generated"
    assert got.get_content_type() == "text/plain"
    assert got.get_content_charset() == "utf-8"
    assert got.get_content().splitlines() == LETTER.text.splitlines()


@pytest.mark.parametrize("text", ["Ваш код: 123456 🩺", "ü" * 2000])
def test_a_letter_travels_as_ascii_so_that_nobody_needs_to_rewrite_it(text: str) -> None:
    letter = Letter("Núñez <rafael@hillside.example>", "Votre code — 您的代码", text)
    sent = message(letter, SENDER, NOON, "<1@hillside.example>").as_bytes()
    assert sent.isascii()
    assert max(map(len, sent.splitlines())) <= 78
    assert read(letter).get_content().splitlines() == letter.text.splitlines()


@pytest.mark.parametrize(
    "subject",
    [
        "Your code\r\nBcc: eve@evil.example",
        "Your code\nBcc: eve@evil.example",
        "Your code\rBcc: eve@evil.example",
        "Your code\u2028Bcc: eve@evil.example",
        "Your code\r\n\r\nanother text",
        "=?utf-8?q?Your_code=0d=0aBcc:_eve=40evil.example?=",
        "=?utf-8?b?WW91ciBjb2RlDQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
        "é\r\nBcc: eve@evil.example",
    ],
)
def test_a_subject_is_one_line(subject: str) -> None:
    got = read(Letter(LETTER.to, subject, LETTER.text))
    assert got.keys() == HEADERS
    assert got["Subject"].isprintable()
    assert got.get_content().splitlines() == LETTER.text.splitlines()


@given(subject=st.text(), text=st.text())
def test_whatever_is_written_makes_no_header(subject: str, text: str) -> None:
    try:
        got = read(Letter(LETTER.to, subject, text))
    except ValueError:  # half a character: nothing is sent
        assert any("\ud800" <= character <= "\udfff" for character in subject + text)
    else:
        assert got.keys() == HEADERS
        assert [to.addr_spec for to in got["To"].addresses] == [LETTER.to]


@pytest.mark.parametrize(
    "to",
    [
        "mei@hillside.example\r\nBcc: eve@evil.example",
        "mei@hillside.example\n",
        "mei@hillside.example, eve@evil.example",
        "<mei@hillside.example> <eve@evil.example",
        "mei@hillside.example> SIZE=1",
        "staff: mei@hillside.example;",
        "Mei <mei@hillside.example\r\nBcc: eve@evil.example>",
        "mei",
        "",
        "\ud800@hillside.example",
    ],
)
def test_what_is_not_one_address_is_refused_without_being_repeated(to: str) -> None:
    with pytest.raises(ValueError) as refused:
        message(Letter(to, "Your code", "123456"), SENDER, NOON, "<1@hillside.example>")
    assert str(refused.value) == "not an e-mail address"


@pytest.mark.parametrize(
    ("to", "name", "spec"),
    [
        ("mei@hillside.example", "", "mei@hillside.example"),
        ("<mei@hillside.example>", "", "mei@hillside.example"),
        ("Rafael Núñez <rafael@hillside.example>", "Rafael Núñez", "rafael@hillside.example"),
        ('"Núñez, Rafael (Dr)" <rafael@hillside.example>', "Núñez, Rafael (Dr)", "rafael@hillside.example"),
        ("eve@evil.example <mei@hillside.example>", "eve@evil.example", "mei@hillside.example"),
        ("Mei\r\nBcc: eve@evil.example <mei@hillside.example>", "Mei Bcc: eve@evil.example", "mei@hillside.example"),
        ("mei@münchen.example", "", "mei@xn--mnchen-3ya.example"),
    ],
)
def test_a_letter_goes_to_one_person(to: str, name: str, spec: str) -> None:
    got = read(Letter(to, "Your code", "123456"))
    assert got.keys() == HEADERS
    assert [(found.display_name, found.addr_spec) for found in got["To"].addresses] == [(name, spec)]


# -- where letters are handed in ----------------------------------------------------------------------------------


def seen(found: Server) -> tuple[str, int, bool, bool, str | None, str | None]:
    return (found.host, found.port, found.implicit, found.trust is not None, found.user, found.password)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("smtp://mail.example", ("mail.example", 587, False, True, None, None)),
        ("smtps://mail.example", ("mail.example", 465, True, True, None, None)),
        ("smtp://u:p@mail.example:25", ("mail.example", 25, False, True, "u", "p")),
        ("smtp://u%40x:p%2F%23%C3%A9@mail.example/", ("mail.example", 587, False, True, "u@x", "p/#é")),
        ("smtp://mail.example?tls=off", ("mail.example", 587, False, False, None, None)),
        ("smtp://localhost:1025", ("localhost", 1025, False, False, None, None)),
        ("smtp://127.0.0.1:1025", ("127.0.0.1", 1025, False, False, None, None)),
        ("smtp://[::1]:1025", ("::1", 1025, False, False, None, None)),
        ("smtp://localhost:1025?tls=on", ("localhost", 1025, False, True, None, None)),
        ("smtps://localhost", ("localhost", 465, True, True, None, None)),
        ("smtp://127.0.0.1.evil.example", ("127.0.0.1.evil.example", 587, False, True, None, None)),
        ("smtp://localhost.evil.example", ("localhost.evil.example", 587, False, True, None, None)),
        ("smtp://10.0.0.1", ("10.0.0.1", 587, False, True, None, None)),
    ],
)
def test_a_url_means_a_server(url: str, meant: tuple[object, ...]) -> None:
    assert seen(server(url)) == meant


def test_certificates_are_verified_for_the_host_they_name() -> None:
    for url in ("smtp://mail.example", "smtps://mail.example"):
        trust = server(url).trust
        assert trust is not None
        assert trust.verify_mode is ssl.CERT_REQUIRED
        assert trust.check_hostname


CANARY = "quiet-heron"


@pytest.mark.parametrize(
    "url",
    [
        "",
        CANARY,
        f"http://u:{CANARY}@mail.example",
        f"smtp://u:{CANARY}@",
        f"smtp://u:{CANARY}@mail.example:0",
        f"smtp://u:{CANARY}@mail.example:port",
        f"smtp://u:{CANARY}@mail.example:99999",
        f"smtp://u:{CANARY}@mail.example/inbox",
        f"smtp://u:{CANARY}@mail.example#part",
        f"smtp://u:{CANARY}/@mail.example",
        f"smtp://u:12/{CANARY}@mail.example",
        f"smtp://u:12#{CANARY}@mail.example",
        f"smtp://u:12?{CANARY}@mail.example",
        f"smtp://u:12?{CANARY}=1@mail.example",
        f"smtp://u:[{CANARY}@mail.example",
        f"smtp://u:{CANARY}\u2100@mail.example",
        f"smtp://u:{CANARY}@mail.example?tls=maybe",
        f"smtp://u:{CANARY}@mail.example?tls=",
        f"smtp://u:{CANARY}@mail.example?tls=on&tls=off",
        f"smtp://u:{CANARY}@mail.example?starttls=on",
        f"smtps://u:{CANARY}@mail.example?tls=off",
        f"smtp://u:{CANARY}@mail.example?tls=off&cafile=/{CANARY}",
        f"smtp://u:{CANARY}@mail.example?cafile=/{CANARY}",
        f"smtp://u:{CANARY}@mail.example?cafile=%00{CANARY}",
        f"smtp://u:{CANARY}@mail.example?cafile={__file__}",
        f"smtp://{CANARY}@mail.example",
        f"smtp://{CANARY}:@mail.example",
        f"smtp://:{CANARY}@mail.example",
    ],
)
def test_an_unusable_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        server(url)
    assert str(refused.value).strip()
    assert CANARY not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    with pytest.raises(ValueError):
        SmtpMail(url, "no-reply@hillside.example", clock=lambda: NOON)


@given(st.text(min_size=1))
def test_a_password_is_read_as_it_was_written_and_never_shown(password: str) -> None:
    try:
        quoted = quote(password + CANARY, safe="")
    except UnicodeEncodeError:  # half a character cannot be quoted
        return
    url = f"smtp://u{CANARY}:{quoted}@localhost"
    found = server(url)
    assert found.password == password + CANARY
    assert CANARY not in repr(found)
    assert CANARY not in repr(SmtpMail(url, "no-reply@hillside.example", clock=lambda: NOON))


def test_a_sender_must_be_an_address() -> None:
    with pytest.raises(ValueError, match="not an e-mail address"):
        SmtpMail("smtp://localhost", "HealLog", clock=lambda: NOON)


# -- before the first start ---------------------------------------------------------------------------------------


async def test_what_is_too_much_is_dropped_without_a_word_about_it() -> None:
    mail = SmtpMail("smtp://localhost", "no-reply@hillside.example", clock=lambda: NOON, most=2)
    with capture_logs() as logged:
        for _ in range(5):
            mail.post(Letter(f"{CANARY}@hillside.example", CANARY, CANARY))
        await mail.stop()
        await mail.stop()
    dropped = {"event": "mail_dropped", "log_level": "warning"}
    assert logged == [{**dropped, "type": "full", "count": 1}] * 3 + [{**dropped, "type": "stopped", "count": 2}]
    assert logged[0].keys() - {"log_level"} <= ALLOWED
