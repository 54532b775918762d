"""An account does not have sessions without end."""

from heallog.domain.sessions import MOST_SESSIONS, Ending

from .world import MINUTE, World


async def test_the_fifty_first_session_ends_the_oldest(world: World) -> None:
    await world.hire(world.dr_okafor)
    tokens = []
    for _ in range(MOST_SESSIONS + 1):
        world.clock.now += MINUTE
        tokens.append(await world.login("dr_okafor"))
    endings = [one.ending for one in world.store.sessions.values() if one is not None]
    assert endings == [Ending.CROWDED] + [None] * MOST_SESSIONS
    assert len(await world.sessions.mine(await world.who(tokens[-1]))) == MOST_SESSIONS
