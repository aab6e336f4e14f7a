"""Slots with real threads; what they wait for are events, never a clock."""

import math
import os
import signal
import threading

import pytest

from sweep.study.slots import CTRL_C, Stop, keep_busy


def test_a_slot_goes_on_while_another_is_still_at_its_first_piece() -> None:
    ten_done, lock, numbers = threading.Event(), threading.Lock(), iter(range(11))

    def work() -> bool:
        with lock:
            number = next(numbers, None)
        if number == 0:
            assert ten_done.wait(60)  # in a lock-step batch the others would wait for this one
        elif number == 10:
            ten_done.set()
        return number is not None

    keep_busy(2, work)
    assert ten_done.is_set()


def test_one_slot_is_the_main_thread() -> None:
    threads, pieces = [], iter([True, True, False])

    def work() -> bool:
        threads.append(threading.current_thread())
        return next(pieces)

    keep_busy(1, work)
    assert threads == [threading.main_thread()] * 3


def test_an_error_in_one_slot_is_raised_when_the_others_have_ended() -> None:
    all_at_work, ended = threading.Barrier(3), []

    def work() -> bool:
        all_at_work.wait(60)
        if threading.current_thread().name == "slot-0":
            raise RuntimeError("slot 0")
        ended.append(threading.current_thread().name)
        return False

    with pytest.raises(RuntimeError, match="slot 0"):
        keep_busy(3, work)
    assert set(ended) == {"slot-1", "slot-2"}


def test_the_first_ctrl_c_stops_and_the_second_raises() -> None:
    stop, told = Stop(), []
    with stop.on_interrupt(lambda: told.append(True)):
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert stop.reason == CTRL_C
        assert told == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_timeout_stops_and_says_so() -> None:
    stop = Stop(timeout=1e-9)
    assert stop()
    assert stop.reason == "the timeout"
    assert not Stop(timeout=3600)()
    assert 0 < Stop(timeout=3600).seconds_left <= 3600
    assert stop.seconds_left == Stop().seconds_left == math.inf
    assert not Stop()()
