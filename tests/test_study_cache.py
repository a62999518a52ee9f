"""The memory of trials: unbounded or in front of a store, one thread computes and the others wait."""

import sys
import threading
import time

import pytest

import backtest as bt
from backtest.search.duplicates import TrialCache

A, B, C = b"a", b"b", b"c"


def test_a_value_is_computed_once():
    cache, asked = TrialCache(), []

    def compute(keys):
        asked.append(keys)
        return [key.decode() for key in keys]

    assert cache.answer([A, B, A], compute) == ["a", "b", "a"]
    assert cache.answer([C, B], compute) == ["c", "b"]
    assert asked == [[A, B], [C]]
    assert cache.statistics() == (1, 0, 0, 3)
    assert cache.get([A, b"x"]) == {A: "a"}
    assert len(cache) == 3


def test_what_is_behind_is_not_computed():
    behind = {A: 1, B: 2}
    looked = []

    def look(keys):
        looked.append(list(keys))
        return {key: behind[key] for key in keys if key in behind}

    cache = TrialCache(look, maxsize=2)
    assert cache.answer([A, B, C], lambda keys: [3 for _ in keys]) == [1, 2, 3]
    assert looked == [[A, B, C]]
    assert len(cache) == 2  # A, the least recently used, had to go
    behind[C] = 3
    assert cache.answer([A, C], lambda keys: pytest.fail("known")) == [1, 3]
    assert looked[1:] == [[A]]
    assert cache.statistics() == (1, 0, 3, 1)


def test_only_a_store_bounds_the_memory():
    with pytest.raises(bt.InputError, match="maxsize must come with a store behind the cache, got 5 alone"):
        TrialCache(maxsize=5)
    with pytest.raises(bt.InputError, match="maxsize must be a whole number >= 1, got 0"):
        TrialCache(lambda keys: {}, maxsize=0)


def test_one_thread_computes_and_the_others_wait():
    cache, count, gate = TrialCache(), [], threading.Barrier(8)

    def compute(keys):
        count.append(keys)
        time.sleep(0.05)
        return [1.0] * len(keys)

    answers = []

    def ask():
        gate.wait()
        answers.append(cache.answer([A, B], compute))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [[1.0, 1.0]] * 8
    assert sorted(key for keys in count for key in keys) == [A, B]
    assert cache.statistics().computed == 2
    assert cache.statistics().waited >= 7


def test_a_failure_is_nobody_elses():
    cache, entered, go = TrialCache(), threading.Event(), threading.Event()
    raised, answers = [], []

    def fails(keys):
        entered.set()
        go.wait(10)
        raise ValueError("no")

    def first():
        try:
            cache.answer([A], fails)
        except ValueError as error:
            raised.append(error)

    def second():
        answers.append(cache.answer([A, B], lambda keys: [2.0] * len(keys)))

    one = threading.Thread(target=first)
    one.start()
    entered.wait(10)
    two = threading.Thread(target=second)
    two.start()
    while not cache.statistics().waited:
        time.sleep(0.001)
    go.set()
    one.join(10)
    two.join(10)
    assert len(raised) == 1
    assert answers == [[2.0, 2.0]]


def test_threads_that_want_each_others_keys_do_not_lock():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    cache, done = TrialCache(), []
    try:

        def ask(seed):
            for turn in range(50):
                keys = [bytes([turn, (each * seed) % 7]) for each in range(7)]
                assert cache.answer(keys, lambda some: [key[1] for key in some]) == [key[1] for key in keys]
            done.append(seed)

        threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in (1, 2, 3, 4, 5, 6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
    finally:
        sys.setswitchinterval(before)
    assert sorted(done) == [1, 2, 3, 4, 5, 6]
    assert cache.statistics().computed == 350
