"""Who opens a store whose server is away, and what do those see who ask meanwhile?"""

from __future__ import annotations

import asyncio

import pytest

from core.errors import InvalidValue, StoreError, StoreUnavailable
from stores.live import LiveStores
from stores.memory import MemoryStore


class SlowToOpen(MemoryStore):
    """A memory store whose server answers, or fails, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closed = False

    async def open(self) -> None:
        await self.answer

    async def close(self) -> None:
        self.is_closed = True


class Lab:
    """`stores` has one store, `made` are those that were tried."""

    def __init__(self) -> None:
        self.made: list[SlowToOpen] = []
        self.stores = LiveStores({"memory": self._make})

    def _make(self) -> SlowToOpen:
        self.made.append(SlowToOpen())
        return self.made[-1]

    async def ask(self, number: int = 1) -> list[asyncio.Task[object]]:
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self.stores.get("memory")) for _ in range(number)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks


async def test_all_who_ask_while_a_store_opens_share_one_attempt_and_its_failure() -> None:
    lab = Lab()
    tasks = await lab.ask(5)
    [store] = lab.made
    store.answer.set_exception(StoreUnavailable("It is away."))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == 5 * [StoreUnavailable]
    assert store.is_closed


async def test_the_next_call_after_a_failure_tries_again() -> None:
    lab = Lab()
    tasks = await lab.ask()
    lab.made[0].answer.set_exception(StoreUnavailable("It is away."))
    await asyncio.gather(*tasks, return_exceptions=True)
    [again] = await lab.ask()
    lab.made[1].answer.set_result(None)
    assert await again is lab.made[1]
    assert await lab.stores.get("memory") is lab.made[1]


async def test_one_who_gives_up_takes_the_store_from_nobody_else() -> None:
    lab = Lab()
    first, second = await lab.ask(2)
    first.cancel()
    lab.made[0].answer.set_result(None)
    assert await second is lab.made[0]
    assert first.cancelled()


async def test_closing_ends_an_attempt_that_is_under_way() -> None:
    lab = Lab()
    [task] = await lab.ask()
    await lab.stores.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lab.made[0].is_closed


async def test_a_store_whose_server_does_not_say_goodbye_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(MemoryStore):
        async def close(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("stores.live.LONGEST_GOODBYE_S", 0.01)
    stores = LiveStores({"memory": Silent})
    await stores.get("memory")
    await stores.close()
    assert "memory does not answer" in caplog.text


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("redis", "RAG_STORES__REDIS__URL"), ("reddis", "connected to: milvus, redis, elasticsearch, mongo")],
)
async def test_a_store_that_a_request_names_and_the_settings_do_not_is_an_invalid_value(
    kind: str, hint: str
) -> None:
    stores = LiveStores.of(MemoryStore())
    with pytest.raises(InvalidValue, match=f"no store '{kind}'; it has memory") as raised:
        await stores.chosen(kind)
    assert hint in (raised.value.hint or "")
    assert (await stores.chosen("memory")).kind == "memory"


async def test_a_store_that_the_settings_do_not_name_is_refused_with_the_setting() -> None:
    with pytest.raises(StoreError, match="RAG_STORES__REDIS__URL"):
        await LiveStores({}).get("redis")
