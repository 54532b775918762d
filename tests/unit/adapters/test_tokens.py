"""An access token is ours to the byte or it proves nothing, and keys change without logging anyone out."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.adapters import tokens
from heallog.adapters.tokens import LEEWAY, LIFE, LONGEST, JwtAccessTokens, derived, key_id, signing_key
from heallog.domain.errors import NotAuthenticated, TokenExpired
from heallog.domain.sessions import IDLE_LIFE, Bearer, Session

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = int(NOON.timestamp())
OLD, NEW, OTHER = (
    "the key of last year, thirty-two+",
    "the key of this year, thirty-two+",
    "a stranger's key, thirty-two+ too",
)
SESSION = Session(
    "hillside", "session-1", "alice", "phone-1", NOON, NOON + IDLE_LIFE, NOON, 1, b"hash of a token", b"family"
)
ALICE = Bearer("alice", "hillside", "session-1", "phone-1")


def at(*secrets: str, now: datetime = NOON) -> JwtAccessTokens:
    return JwtAccessTokens(secrets, lambda: now)


def issued(*secrets: str, now: datetime = NOON) -> str:
    return at(*secrets).issue(SESSION, now)[0]


OURS = at(NEW)
TOKEN = issued(NEW)
KEY = signing_key(NEW)
KID = key_id(KEY)
CLAIMS = jwt.decode(TOKEN, options={"verify_signature": False})
HEADER = jwt.get_unverified_header(TOKEN)


def encoded(part: str | bytes) -> str:
    return urlsafe_b64encode(part.encode() if isinstance(part, str) else part).rstrip(b"=").decode()


def made(header: str, claims: str, key: bytes = KEY, algorithm: str = "HS256") -> str:
    """A token of exactly this text, well signed."""
    text = f"{encoded(header)}.{encoded(claims)}"
    signer = jwt.PyJWS().get_algorithm_by_name(algorithm)
    return f"{text}.{encoded(signer.sign(text.encode(), key))}"


def dumped(part: dict[str, Any]) -> str:
    return json.dumps(part, separators=(",", ":"))


def with_claims(**other: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **other}.items() if value is not ...}
    return made(dumped(HEADER), dumped(claims))


def with_header(key: bytes = KEY, algorithm: str = "HS256", **other: Any) -> str:
    header = {name: value for name, value in {**HEADER, **other}.items() if value is not ...}
    return made(dumped(header), dumped(CLAIMS), key, algorithm)


# -- what is written is read --------------------------------------------------------------------------------------


def test_whose_session_it_is_comes_back_and_cannot_be_changed() -> None:
    bearer = OURS.read(TOKEN)
    assert bearer == ALICE
    with pytest.raises(FrozenInstanceError):
        bearer.account_id = "ben"  # type: ignore[misc]


def test_an_expired_token_is_read_where_it_was_issued_after_a_time() -> None:
    later = at(NEW, now=NOON + timedelta(days=30))
    assert later.read(TOKEN, NOON - timedelta(seconds=1)) == ALICE
    assert OURS.read(TOKEN, NOON + timedelta(days=1)) == ALICE
    for since in (None, NOON):
        with pytest.raises(TokenExpired):
            later.read(TOKEN, since)
    for wrong in (
        made(dumped(HEADER), dumped(CLAIMS), signing_key(OTHER)),
        with_claims(aud="other"),
        with_header(typ="JWT"),
    ):
        with pytest.raises(NotAuthenticated):
            later.read(wrong, NOON - timedelta(days=1))


def test_a_token_says_what_it_is_and_which_key_signed_it() -> None:
    assert HEADER == {"alg": "HS256", "kid": KID, "typ": "at+jwt"}
    assert CLAIMS.keys() == {"iss", "aud", "jti", "iat", "exp", "sub", "sid", "prc", "dev"}
    assert (CLAIMS["iat"], CLAIMS["exp"]) == (AT, AT + 900)
    assert CLAIMS["jti"] == "session-1.1"


def test_a_token_says_nothing_of_rights_and_nothing_secret() -> None:
    assert "rol" not in CLAIMS
    shown = f"{TOKEN} {CLAIMS}"
    assert not any(secret in shown for secret in ("hash of a token", "family", encoded(b"hash of a token"), NEW))


def test_the_same_generation_has_the_same_token_and_another_one_another() -> None:
    """The answer to a refresh that is asked again is the same to the byte."""
    assert issued(NEW) == TOKEN
    assert OURS.issue(replace(SESSION, generation=2), NOON)[0] != TOKEN
    assert issued(NEW, now=NOON + timedelta(seconds=1)) != TOKEN


def test_a_token_does_not_outlive_its_session() -> None:
    late = SESSION.expires_at - timedelta(minutes=1)
    token, life = OURS.issue(SESSION, late)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (life, claims["exp"]) == (60, int(SESSION.expires_at.timestamp()))
    assert OURS.issue(SESSION, NOON)[1] == LIFE == 900


def test_each_thing_has_a_key_of_its_own() -> None:
    labels = ("access token", "refresh token", "one-time code", "authenticator")
    assert len({derived(secret, label) for secret in (NEW, OLD) for label in labels}) == 8
    assert derived(NEW, "access token") == KEY


def test_what_servers_of_other_versions_must_agree_on_stays_as_it_is() -> None:
    """Otherwise an upgrade of HealLog or of PyJWT logs everyone out: then change this and say so in CHANGELOG."""
    assert key_id(signing_key("k" * 32)) == "GaHM2G71UFU"
    assert issued("k" * 32).partition(".")[0] == "eyJhbGciOiJIUzI1NiIsImtpZCI6IkdhSE0yRzcxVUZVIiwidHlwIjoiYXQrand0In0"


def test_the_secret_itself_signs_nothing_and_is_in_no_token() -> None:
    assert NEW.encode() != KEY
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(TOKEN, NEW, algorithms=["HS256"], audience=tokens.AUDIENCE)
    with pytest.raises(NotAuthenticated):
        OURS.read(with_header(NEW.encode()))


def test_the_longest_names_that_there_are_fit() -> None:
    longest = Bearer("a" * 64, "p" * 64, "s" * 64, "d" * 64)
    session = replace(
        SESSION, account_id="a" * 64, practice_id="p" * 64, id="s" * 64, device_id="d" * 64, generation=999_999_999
    )
    assert OURS.read(OURS.issue(session, NOON)[0]) == longest


# -- what is made like ours is good, so the forgeries fail for what they change -----------------------------------


def test_a_token_made_by_hand_like_ours_is_good() -> None:
    assert with_claims() == with_header() == TOKEN
    assert OURS.read(with_claims(nbf=AT)) == ALICE
    assert OURS.read(with_claims(unheard="of")) == ALICE


TEXTS = ("iss", "aud", "jti", "sub", "sid", "prc", "dev")
WRONG_TEXTS: tuple[Any, ...] = (..., None, "", 7, True, ["heallog"], {"a": 1})
WRONG_TIMES: tuple[Any, ...] = (..., None, "never", str(AT), True, AT + 0.5, [AT], {}, -1, 10**40, -(10**40))

FORGERIES = {
    "unsigned": with_header(algorithm="none", alg="none"),
    "unsigned, and it says so in capitals": with_header(algorithm="none", alg="NONE"),
    "unsigned under our header": TOKEN.rpartition(".")[0] + ".",
    "HS384": with_header(algorithm="HS384", alg="HS384"),
    "HS512": with_header(algorithm="HS512", alg="HS512"),
    "HS512 under our header": with_header(algorithm="HS512"),
    "RS256 by name": with_header(alg="RS256"),
    "no algorithm": with_header(alg=...),
    "algorithm in small letters": with_header(alg="hs256"),
    "algorithms as a list": with_header(alg=["HS256"]),
    "no type": with_header(typ=...),
    "another type": with_header(typ="JWT"),
    "a refresh token's type": with_header(typ="rt+jwt"),
    "no key named": with_header(kid=...),
    "a key that there is not": with_header(kid=key_id(signing_key(OTHER))),
    "a key by its path": with_header(kid="../../dev/null"),
    "a key that is a number": with_header(kid=1),
    "somebody else's key under our name for it": with_header(signing_key(OTHER)),
    "signed with nothing": with_header(b""),
    "where to find the key": with_header(jku="https://attacker.example/keys"),
    "the key itself": with_header(jwk={"kty": "oct", "k": encoded(KEY)}),
    "a certificate to find": with_header(x5u="https://attacker.example/x"),
    "a certificate": with_header(x5c=["MII"]),
    "something critical": with_header(crit=["exp"], exp=AT),
    "a detached payload": with_header(b64=False, crit=["b64"]),
    "compressed": with_header(zip="DEF"),
    "a header with a space": made(json.dumps(HEADER), dumped(CLAIMS)),
    "a header that says it twice": made(dumped(HEADER)[:-1] + f',"kid":"{KID}"}}', dumped(CLAIMS)),
    "a header that is a list": made("[]", dumped(CLAIMS)),
    "a header that is no JSON": made("{", dumped(CLAIMS)),
    "claims that are a list": made(dumped(HEADER), "[]"),
    "claims that are no JSON": made(dumped(HEADER), "{"),
    "claims that are nothing": made(dumped(HEADER), ""),
    "claims within claims": made(dumped(HEADER), "[" * 700),
    "for another service": with_claims(aud="billing"),
    "for another service too": with_claims(aud=["heallog-api", "billing"]),
    "from another service": with_claims(iss="billing"),
    "issued in a moment": with_claims(iat=AT + LEEWAY + 1, exp=AT + LEEWAY + 2),
    "not valid yet": with_claims(nbf=AT + LEEWAY + 1),
    "not valid at any time": with_claims(nbf="now"),
    "good for longer than a token lives": with_claims(exp=AT + LIFE + 1),
    "ended before it began": with_claims(exp=AT),
    "too long": with_claims(unheard="x" * LONGEST),
    "padded": TOKEN + "=" * (-len(TOKEN.rpartition(".")[2]) % 4),
    "with a fourth part": f"{TOKEN}.{TOKEN.rpartition('.')[2]}",
    "with a blank": f"{TOKEN} ",
    "with a line's end": f"{TOKEN}\n",
    "with half a letter": f"{TOKEN}\ud800",
    "nothing": "",
    "dots": "..",
    **{f"{name}={value!r}": with_claims(**{name: value}) for name in TEXTS for value in WRONG_TEXTS},
    **{f"{name}={value!r}": with_claims(**{name: value}) for name in ("iat", "exp") for value in WRONG_TIMES},
}


@pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_token_proves_nothing(token: str) -> None:
    with pytest.raises(NotAuthenticated):
        OURS.read(token)


def test_what_is_longer_than_any_token_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tokens, "_SIGNED")
    with pytest.raises(NotAuthenticated):
        OURS.read(TOKEN + "x" * LONGEST)


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 1, LIFE - 1, LIFE, LIFE + LEEWAY - 1])
def test_a_token_is_good_for_its_life_and_a_little_leeway(seconds: int) -> None:
    assert at(NEW, now=NOON + timedelta(seconds=seconds)).read(TOKEN) == ALICE


@pytest.mark.parametrize("seconds", [LIFE + LEEWAY, LIFE + LEEWAY + 1, 10**8])
def test_afterwards_it_has_expired(seconds: int) -> None:
    with pytest.raises(TokenExpired):
        at(NEW, now=NOON + timedelta(seconds=seconds)).read(TOKEN)


def test_another_servers_clock_may_be_a_little_ahead_and_not_more() -> None:
    assert at(NEW, now=NOON - timedelta(seconds=LEEWAY)).read(TOKEN) == ALICE
    with pytest.raises(NotAuthenticated):
        at(NEW, now=NOON - timedelta(seconds=LEEWAY + 1)).read(TOKEN)


@pytest.mark.parametrize("name", sorted(FORGERIES.keys() - {"issued in a moment", "not valid yet"}))
def test_a_forgery_is_not_told_that_it_has_expired(name: str) -> None:
    with pytest.raises(NotAuthenticated):
        at(NEW, now=NOON + timedelta(days=1)).read(FORGERIES[name])


# -- changing the key ---------------------------------------------------------------------------------------------


def test_a_key_is_changed_without_logging_anyone_out() -> None:
    before = issued(OLD)
    during = at(NEW, OLD)
    after = during.issue(SESSION, NOON)[0]
    assert jwt.get_unverified_header(after)["kid"] == KID
    assert during.read(before) == during.read(after) == ALICE
    assert at(NEW).read(after) == ALICE
    with pytest.raises(NotAuthenticated):
        at(NEW).read(before)
    with pytest.raises(NotAuthenticated):
        during.read(issued(OTHER))


def test_servers_that_restart_one_after_the_other_understand_each_other() -> None:
    """First all read the new key, then they sign with it."""
    rounds = [[(OLD,), (OLD, NEW)], [(OLD, NEW), (NEW, OLD)], [(NEW, OLD), (NEW,)]]
    for servers in rounds[:2]:
        for signs in servers:
            for reads in servers:
                assert at(*reads).read(issued(*signs)) == ALICE
    assert at(NEW).read(issued(NEW, OLD)) == ALICE


def test_a_key_cannot_speak_under_the_others_name() -> None:
    with pytest.raises(NotAuthenticated):
        at(NEW, OLD).read(with_header(signing_key(OLD)))


# -- anything -----------------------------------------------------------------------------------------------------

LETTERS = st.sampled_from("abcXYZ019-_=.+/ \n\x00é\ud800😀")


def refused(token: str) -> None:
    with pytest.raises((NotAuthenticated, TokenExpired)):
        OURS.read(token)


@given(st.text() | st.text(LETTERS) | st.lists(st.binary().map(encoded), max_size=5).map(".".join))
def test_garbage_proves_nothing(token: str) -> None:
    refused(token)


@given(st.binary() | st.text().map(str.encode), st.text(LETTERS, max_size=60))
def test_garbage_under_our_header_proves_nothing(claims: bytes, signature: str) -> None:
    refused(f"{TOKEN.partition('.')[0]}.{encoded(claims)}.{signature}")


@given(st.integers(0, len(TOKEN)), st.integers(0, 3), st.text(LETTERS, max_size=3))
def test_a_token_with_any_letters_changed_proves_nothing(place: int, removed: int, put: str) -> None:
    changed = TOKEN[:place] + put + TOKEN[place + removed :]
    if changed != TOKEN:
        refused(changed)


@given(st.integers(0, 8 * 32 - 1))
def test_a_signature_with_a_bit_flipped_proves_nothing(bit: int) -> None:
    text, _, signature = TOKEN.rpartition(".")
    flipped = int.from_bytes(urlsafe_b64decode(signature + "=")) ^ (1 << bit)
    refused(f"{text}.{encoded(flipped.to_bytes(32))}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(CLAIMS)), JSON, min_size=1))
def test_whatever_is_signed_is_a_bearer_or_refused(other: dict[str, Any]) -> None:
    """Even where a part of ours that shares the key signs nonsense."""
    try:
        bearer = OURS.read(with_claims(**other))
    except (NotAuthenticated, TokenExpired):
        return
    assert all(isinstance(value, str) and value for value in (bearer.account_id, bearer.practice_id, bearer.session_id))
