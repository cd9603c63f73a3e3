"""Whether the head of a cluster still answers: told once, and only after a while of silence."""

from __future__ import annotations

import socket
from queue import Empty, SimpleQueue

import pytest
from peft_update_bench.bench.processes import head_watch
from peft_update_bench.bench.processes.head_watch import HeadWatch, silence, split


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[str]:
    """What a watch says, within a fraction of the time that it takes for a real one."""
    monkeypatch.setattr(head_watch, "_EVERY_S", 0.01)
    monkeypatch.setattr(head_watch, "_GONE_AFTER_S", 0.05)
    return SimpleQueue()


def test_a_head_that_is_gone_is_told_of_once(said: SimpleQueue[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = head.getsockname()
        watch = HeadWatch(address, said.put)
        with pytest.raises(Empty):
            said.get(timeout=0.3)
    assert said.get(timeout=30) == f"its head at 127.0.0.1:{address[1]} does not answer (Connection refused)"
    with pytest.raises(Empty):
        said.get(timeout=0.3)
    watch.close()


def test_a_watch_that_is_closed_says_nothing(said: SimpleQueue[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        HeadWatch(head.getsockname(), said.put).close()
    with pytest.raises(Empty):
        said.get(timeout=0.3)


@pytest.mark.parametrize(("given", "found"), [("node:6379", ("node", 6379)), ("[::1]:80", ("::1", 80))])
def test_an_address_is_a_host_and_a_port(given: str, found: tuple[str, int]) -> None:
    assert split(given) == found


def test_who_answers_is_not_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        assert silence(*head.getsockname()) == ""
