"""Refresh tokens: whatever happens, one of them opens, a lost answer can be had again, and a copied one ends it all."""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heallog.domain.sessions import (
    IDLE_LIFE,
    RETRY_WINDOW,
    SESSION_LIFE,
    Ending,
    RefreshToken,
    Session,
    Tokens,
    Use,
    opened,
    parse,
    use,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
KEY, OLD, OTHER = b"the key in use", b"the key before", b"a third key"
CHANCE = bytes(range(64))


def begun(chance: bytes = CHANCE, session_id: str = "s-1") -> tuple[Session, RefreshToken]:
    return opened("northside", session_id, "alice", "tablet-1", NOON, chance)


def used(
    session: Session, token: RefreshToken, now: datetime = NOON, *keys: bytes
) -> tuple[Use, Session, RefreshToken]:
    what, after, answer = use(session, token, keys or (KEY,), now)
    assert answer is not None
    return what, after, answer


def refused(session: Session, token: RefreshToken, now: datetime = NOON, *keys: bytes) -> tuple[Use, Session]:
    what, after, answer = use(session, token, keys or (KEY,), now)
    assert answer is None
    return what, after


# -- one after the other ------------------------------------------------------------------------------------------


def test_a_session_begins_with_one_token_and_a_month() -> None:
    session, token = begun()
    assert session == Session(
        "northside", "s-1", "alice", "tablet-1", NOON, NOON + IDLE_LIFE, NOON, 1, session.token_hash, session.family
    )
    assert (token.practice_id, token.session_id, token.generation) == ("northside", "s-1", 1)
    assert (session.family, token.secret) == (CHANCE[:32], CHANCE[32:])
    assert session.live(NOON)


def test_each_use_gives_the_next_token_and_another_month() -> None:
    session, token = begun()
    secrets = {token.secret}
    for generation in range(2, 6):
        now = NOON + generation * DAY
        what, session, token = used(session, token, now)
        assert (what, session.generation, token.generation) == (Use.NEXT, generation, generation)
        assert (session.refreshed_at, session.expires_at) == (now, now + IDLE_LIFE)
        secrets.add(token.secret)
    assert len(secrets) == 5


def test_a_device_that_is_used_every_day_logs_in_again_after_90_days() -> None:
    session, token = begun()
    for day in range(1, 90):
        _, session, token = used(session, token, NOON + day * DAY)
    assert session.expires_at == NOON + SESSION_LIFE
    assert used(session, token, NOON + SESSION_LIFE - SECOND)[1].expires_at == NOON + SESSION_LIFE
    assert refused(session, token, NOON + SESSION_LIFE) == (Use.OVER, session)


def test_a_device_that_stays_away_for_a_month_logs_in_again() -> None:
    session, token = begun()
    assert used(session, token, NOON + IDLE_LIFE - SECOND)[0] is Use.NEXT
    assert refused(session, token, NOON + IDLE_LIFE) == (Use.OVER, session)


# -- again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 1, 10])
def test_whoever_lost_the_answer_gets_the_very_same_within_ten_seconds(seconds: int) -> None:
    session, token = begun()
    _, after, answer = used(session, token)
    assert used(after, token, NOON + seconds * SECOND) == (Use.RETRY, after, answer)


def test_whoever_comes_with_a_used_token_later_ends_the_session_for_everyone() -> None:
    session, token = begun()
    _, after, answer = used(session, token)
    late = NOON + RETRY_WINDOW + SECOND / 1000
    what, ended = refused(after, token, late)
    assert what is Use.REPLAY
    assert ended == replace(after, ended_at=late, ending=Ending.REPLAYED)
    assert refused(ended, answer, late) == (Use.OVER, ended)


def test_a_token_before_the_last_is_never_a_retry() -> None:
    session, first = begun()
    _, session, second = used(session, first)
    at = NOON + RETRY_WINDOW + SECOND
    _, session, _ = used(session, second, at)
    what, ended = refused(session, first, at)
    assert (what, ended.ending) == (Use.REPLAY, Ending.REPLAYED)


def test_of_a_crowd_that_refreshes_one_after_the_other_nobody_is_a_replay() -> None:
    """Each task with what is stored when its request has failed: the first token, or already the second."""
    session, first = begun()
    _, session, second = used(session, first, NOON)
    for late in range(11):
        for token in (first, second):
            what, session, answer = used(session, token, NOON + late * SECOND)
            assert (what, answer) == (Use.RETRY, second)
    assert session.generation == 2


def test_fifty_tasks_with_one_token_get_one_new_one() -> None:
    session, token = begun()
    answers = set()
    for _ in range(50):
        _, session, answer = used(session, token, NOON + SECOND)
        answers.add(str(answer))
    assert (session.generation, len(answers)) == (2, 1)


# -- keys of the servers ------------------------------------------------------------------------------------------


def test_servers_that_have_their_keys_in_another_order_give_the_same_retry() -> None:
    session, token = begun()
    _, after, answer = used(session, token, NOON, OLD, KEY)
    assert used(after, token, NOON, KEY, OLD) == (Use.RETRY, after, answer)
    assert used(after, token, NOON, OTHER, KEY, OLD) == (Use.RETRY, after, answer)


def test_a_key_that_is_taken_away_costs_a_retry_and_nothing_else() -> None:
    session, token = begun()
    _, after, answer = used(session, token, NOON, OLD)
    for seconds in (1, 3600):
        assert refused(after, token, NOON + seconds * SECOND, KEY) == (Use.UNKNOWN, after)
    what, further, _ = used(after, answer, NOON + DAY, KEY)
    assert (what, further.generation) == (Use.NEXT, 3)
    assert refused(further, token, NOON + DAY, KEY)[0] is Use.REPLAY


# -- what never ends a session ------------------------------------------------------------------------------------


def test_the_first_end_counts() -> None:
    session, token = begun()
    ended = session.ended(Ending.LOGOUT, NOON)
    assert ended.ended(Ending.REPLAYED, NOON + SECOND) is ended
    assert not ended.live(NOON)
    assert refused(ended, token) == (Use.OVER, ended)


def test_a_token_of_another_session_says_nothing_here() -> None:
    session, _ = begun()
    _, foreign = begun(bytes(range(1, 65)), "s-2")
    for token in (foreign, replace(foreign, session_id="s-1")):
        assert refused(session, token) == (Use.UNKNOWN, session)


def test_of_two_sessions_with_the_same_family_the_tags_differ() -> None:
    _, token = begun()
    other, _ = begun(session_id="s-2")
    assert refused(other, token)[0] is Use.UNKNOWN


# -- as text ------------------------------------------------------------------------------------------------------

NAMES = st.text("ABCXYZabcxyz0189-", min_size=1, max_size=64)
TOKENS = st.builds(
    RefreshToken,
    NAMES,
    NAMES,
    st.integers(1, 999_999_999),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
)


@given(TOKENS)
def test_a_token_is_read_as_it_was_written(token: RefreshToken) -> None:
    text = str(token)
    assert text.startswith("hlr_")
    assert len(text) <= 512
    assert parse(text) == token


@given(TOKENS, st.integers(0, 220), st.integers(0, 2), st.text("aZ0_-=. \n\x00é\ud800", max_size=2))
def test_a_changed_text_is_another_token_or_none(token: RefreshToken, at: int, removed: int, put: str) -> None:
    text = str(token)
    changed = text[:at] + put + text[at + removed :]
    read = parse(changed)
    assert read is None or str(read) == changed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hlr_a_b_1_",
        f"hlr_a_b_0_{'A' * 64}",
        f"hlr_a_b_01_{'A' * 64}",
        f"hlr_a_b_-1_{'A' * 64}",
        f"hlr_a_b_1000000000_{'A' * 64}",
        f"hlr_a_b_1_{'A' * 63}",
        f"hlr_a_b_1_{'A' * 65}",
        f"hlr_a_b_1_{'A' * 63}=",
        f"hlr_a_b_1_{'A' * 63}+",
        f"hlr_{'a' * 65}_b_1_{'A' * 64}",
        f"hlr__b_1_{'A' * 64}",
        f"hlr_a.b_c_1_{'A' * 64}",
        f"HLR_a_b_1_{'A' * 64}",
        f"hlr_a_b_1_{'A' * 64}\n",
        f"hlr_a_b_\u0661_{'A' * 64}",
    ],
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert parse(text) is None


def spoken(*secrets: bytes) -> list[str]:
    """A secret in every way in which it may get into a text."""
    return [way for one in secrets for way in (repr(one)[2:-1], one.hex(), urlsafe_b64encode(one).decode())]


def test_no_secret_shows_and_at_rest_nothing_opens() -> None:
    session, token = begun(bytes(range(100, 164)))
    _, after, answer = used(session, token)
    shown = f"{token!r} {session!r} {after!r} {answer!r}"
    assert repr(token) == "RefreshToken(northside, s-1, 1)"
    assert not any(way in shown for way in spoken(token.secret, answer.secret))
    for kept in (session, after):
        assert not {token.secret, answer.secret} & set(map(bytes_of, asdict(kept).values()))
        # Whoever has the row can make any tag, and nothing that opens.
        for value in (kept.token_hash, kept.family):
            forged = replace(answer, generation=after.generation, secret=value)
            assert refused(after, forged) == (Use.UNKNOWN, after)


def bytes_of(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_tokens_of_a_login_are_bearer_tokens() -> None:
    assert Tokens("a", 900, "r").token_type == "Bearer"


# -- in any order -------------------------------------------------------------------------------------------------

STEPS = st.sampled_from([0.0, 0.001, 1.0, 9.0, 10.0, 10.001, 60.0, 86_400.0, 29 * 86_400.0, 31 * 86_400.0])
BACK = st.sampled_from([0.5, 9.0, 11.0, 3_600.0])
SERVERS = st.lists(st.sampled_from([KEY, OLD, OTHER]), min_size=1, max_size=3, unique=True).map(tuple)


class Refreshing(RuleBasedStateMachine):
    """One session, everything that was ever answered, and whoever brings whatever at whatever time."""

    @initialize(seed=st.integers(0, 255))
    def login(self, seed: int) -> None:
        chance = hashlib.sha512(bytes([seed])).digest()
        self.now = NOON
        self.keys: tuple[bytes, ...] = (KEY, OLD)
        self.session, first = begun(chance)
        self.tokens = [first]
        self.made_with: bytes | None = None
        self.foreign = begun(bytes(byte ^ 1 for byte in chance), "s-2")[1]
        self.over = False

    # -- the world turns ----------------------------------------------------------------------------------------

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(seconds=BACK)
    def the_clock_goes_back(self, seconds: float) -> None:
        """To another server, that is."""
        self.now -= timedelta(seconds=seconds)

    @rule(keys=SERVERS)
    def another_server(self, keys: tuple[bytes, ...]) -> None:
        self.keys = keys

    @rule(ending=st.sampled_from(Ending))
    def the_session_ends(self, ending: Ending) -> None:
        ended = self.session.ended(ending, self.now)
        assert ended.ending is (self.session.ending or ending)
        self.session, self.over = ended, True

    # -- what is brought ----------------------------------------------------------------------------------------

    @property
    def young(self) -> bool:
        """Whether the present token was given just now, and is given again."""
        return len(self.tokens) > 1 and self.now - self.session.refreshed_at <= RETRY_WINDOW

    def brought(self, token: RefreshToken) -> tuple[Use, RefreshToken | None]:
        before = self.session
        what, self.session, answer = use(before, token, self.keys, self.now)
        assert (answer is not None) == (what in {Use.NEXT, Use.RETRY})
        if what not in {Use.NEXT, Use.REPLAY}:
            assert self.session == before
        self.over = self.over or what is Use.REPLAY
        return what, answer

    @rule()
    def the_present_one(self) -> None:
        """Whatever became of the servers' keys."""
        live, young = self.session.live(self.now), self.young
        what, answer = self.brought(self.tokens[-1])
        if live and young:
            assert (what, answer) == (Use.RETRY, self.tokens[-1])
            return
        assert what is (Use.NEXT if live else Use.OVER)
        if answer is not None:
            self.tokens.append(answer)
            self.made_with = self.keys[0]
            assert self.session.generation == len(self.tokens)
            assert self.session.expires_at == min(self.now + IDLE_LIFE, NOON + SESSION_LIFE)

    @precondition(lambda self: len(self.tokens) > 1)
    @rule()
    def the_one_before(self) -> None:
        live, early = self.session.live(self.now), self.now - self.session.refreshed_at <= RETRY_WINDOW
        what, answer = self.brought(self.tokens[-2])
        if self.made_with not in self.keys:
            assert what is Use.UNKNOWN
        elif not live:
            assert what is Use.OVER
        else:
            assert what is (Use.RETRY if early else Use.REPLAY)
            assert answer == (self.tokens[-1] if early else None)

    @precondition(lambda self: len(self.tokens) > 2)
    @rule(data=st.data())
    def an_old_one(self, data: st.DataObject) -> None:
        live = self.session.live(self.now)
        what, _ = self.brought(data.draw(st.sampled_from(self.tokens[:-2])))
        assert what is (Use.REPLAY if live else Use.OVER)

    @rule(data=st.data(), tag=st.binary(min_size=16, max_size=16))
    def a_made_up_tag(self, data: st.DataObject, tag: bytes) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        if tag != token.tag:
            assert self.brought(replace(token, tag=tag))[0] is Use.UNKNOWN

    @rule(data=st.data(), secret=st.binary(min_size=32, max_size=32))
    def a_made_up_secret(self, data: st.DataObject, secret: bytes) -> None:
        token = data.draw(st.sampled_from(self.tokens[-2:]))
        if secret != token.secret:
            assert self.brought(replace(token, secret=secret))[0] is Use.UNKNOWN

    @rule(data=st.data(), generation=st.integers(1, 20) | st.just(999_999_999))
    def a_made_up_generation(self, data: st.DataObject, generation: int) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        if generation != token.generation:
            assert self.brought(replace(token, generation=generation))[0] is Use.UNKNOWN

    @rule()
    def one_of_another_session(self) -> None:
        assert self.brought(self.foreign)[0] is Use.UNKNOWN
        assert self.brought(replace(self.foreign, session_id="s-1"))[0] is Use.UNKNOWN

    # -- and always ---------------------------------------------------------------------------------------------

    @invariant()
    def one_token_opens_at_most(self) -> None:
        uses = [use(self.session, token, self.keys, self.now)[0] for token in self.tokens]
        assert uses.count(Use.NEXT) == (self.session.live(self.now) and not self.young)
        assert Use.NEXT not in uses[:-1]
        assert Use.RETRY not in uses[:-2]

    @invariant()
    def what_is_over_stays_over(self) -> None:
        assert (self.session.ended_at is not None) == self.over
        assert self.session.expires_at <= NOON + SESSION_LIFE

    @invariant()
    def no_secret_is_kept_or_shown(self) -> None:
        secrets = {token.secret for token in self.tokens}
        assert not secrets & {self.session.token_hash, self.session.family}
        assert len(secrets) == len(self.tokens)
        assert not any(way in repr(self.session) for way in spoken(self.tokens[-1].secret))


TestRefreshing = Refreshing.TestCase
