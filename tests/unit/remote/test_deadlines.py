import threading
from time import monotonic

from orchestrator.remote.deadlines import Watchdog


def test_what_outlives_its_deadline_is_ended_from_another_thread() -> None:
    ended = threading.Event()

    with Watchdog() as watchdog, watchdog.watch(0.01).guarding(ended.set):
        assert ended.wait(10)


def test_what_is_done_in_time_is_left_alone() -> None:
    ended = threading.Event()

    with Watchdog() as watchdog, watchdog.watch(3600).guarding(ended.set):
        pass

    assert not ended.is_set()


def test_a_nearer_deadline_is_kept_though_a_farther_one_was_there_first() -> None:
    near, far = threading.Event(), threading.Event()

    with Watchdog() as watchdog, watchdog.watch(3600).guarding(far.set):
        with watchdog.watch(0.05).guarding(near.set):
            assert near.wait(10)
        assert not far.is_set()


def test_leaving_ends_everything_that_is_still_guarded() -> None:
    ended = threading.Event()
    inside = threading.Event()
    watchdog = Watchdog()

    def guarded() -> None:
        with watchdog.watch(3600).guarding(ended.set):
            inside.set()
            ended.wait(10)

    with watchdog:
        thread = threading.Thread(target=guarded)
        thread.start()
        inside.wait(10)
    thread.join(10)

    assert ended.is_set()


def test_what_is_guarded_after_the_end_is_ended_at_once_and_has_no_time_left() -> None:
    ended = threading.Event()
    watchdog = Watchdog()
    with watchdog:
        watch = watchdog.watch(3600)
        assert not watch.expired

    with watch.guarding(ended.set):
        assert ended.is_set()
    assert watch.stopped
    assert watch.expired


def test_a_pause_ends_with_the_deadline() -> None:
    started = monotonic()

    with Watchdog() as watchdog:
        watch = watchdog.watch(0.02)
        watch.pause(3600)

    assert watch.expired
    assert monotonic() - started < 60


def test_time_off_the_clock_does_not_count() -> None:
    with Watchdog() as watchdog:
        watch = watchdog.watch(0.05)
        with watch.off_the_clock():
            threading.Event().wait(0.1)

        assert not watch.expired
