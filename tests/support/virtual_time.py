"""An event loop whose clock jumps: an hour of timers is over as soon as their callbacks have run.

Answers what runs next and what time it is then. Refuses real input and output, except functions handed to an
executor: they run at once, in the loop's own thread, and take no virtual time. So one seed gives one run.

What nothing can end is an error rather than a hang: a loop without ready callbacks, timers or letters raises
Deadlock; one that never lets time pass raises Livelock; one that passes its time limit raises OutOfTime.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Not zero: code that takes 0.0 for "never" must show itself.
START_S: Final = 1000.0
# 2026-01-01T00:00:00Z, so that wall clocks are the same in every run.
WALL_START_S: Final = 1_767_225_600.0
# So many rounds at one instant are no work, they are a loop of sleep(0).
LIVELOCK_ROUNDS_COUNT: Final = 200_000
# A simulation that takes longer than a day of its own time forgot to stop.
LIMIT_S: Final = 86_400.0
_NAMED_TASKS_COUNT: Final = 8
_NO_SOCKETS: Final = "no real sockets in virtual time: use tests.support.virtual_net"


class VirtualTimeError(Exception):
    """Base of what the loop itself raises, out of `run_virtual`."""


class Deadlock(VirtualTimeError):
    """Tasks wait, and nothing is scheduled that could wake them."""


class Livelock(VirtualTimeError):
    """Callbacks call each other for ever at one instant."""


class OutOfTime(VirtualTimeError):
    """The run passed its limit of virtual time."""


class CallbackFailed(VirtualTimeError):
    """Something raised where nobody waits for it: a protocol's callback, a task that was dropped."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`limit_s` is virtual, from the start on."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._jumps = _Jumps(START_S, START_S + limit_s)
        super().__init__(self._jumps)
        self._jumps.sealed = True
        self._jumps.waiting = self._describe_waiting
        self._jumps.running = self._describe_running
        self._jumps.failed = self._deliver_failed
        self.failures: list[BaseException] = []
        self.set_exception_handler(self._collect)

    def time(self) -> float:
        return self._jumps.now

    @property
    def elapsed_s(self) -> float:
        return self._jumps.now - START_S

    def wall(self, wrong_by_s: float = 0.0) -> Callable[[], float]:
        """A wall clock of this loop, `wrong_by_s` ahead."""
        ahead_s = WALL_START_S - START_S + wrong_by_s
        jumps = self._jumps
        return lambda: jumps.now + ahead_s

    def post(self, delay_s: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """`call_later` without a handle: it cannot be cancelled, and costs a third. Letters of one instant run in
        the order of posting."""
        jumps = self._jumps
        heapq.heappush(jumps.letters, (jumps.now + delay_s, next(jumps.order), callback, args))

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:
            future.set_exception(exc)
        return future

    async def create_datagram_endpoint(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError(_NO_SOCKETS)

    async def create_connection(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError(_NO_SOCKETS)

    async def create_server(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError(_NO_SOCKETS)

    def _deliver_failed(self, exc: Exception) -> None:
        self.call_exception_handler({"message": "a letter's callback raised", "exception": exc})

    def _collect(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        exc = context.get("exception")
        self.failures.append(
            exc if isinstance(exc, BaseException) else CallbackFailed(str(context["message"]))
        )

    def _describe_waiting(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines = [_where(task) for task in tasks[:_NAMED_TASKS_COUNT]]
        if len(tasks) > _NAMED_TASKS_COUNT:
            lines.append(f"and {len(tasks) - _NAMED_TASKS_COUNT} more")
        return "; ".join(lines)

    def _describe_running(self) -> str:
        callbacks = [getattr(handle, "_callback", None) for handle in getattr(self, "_ready", ())]
        owners = [getattr(callback, "__self__", None) for callback in callbacks[:_NAMED_TASKS_COUNT]]
        return "; ".join(
            _where(owner) if isinstance(owner, asyncio.Task) else repr(callback)
            for owner, callback in zip(owners, callbacks, strict=False)
        )


def run_virtual(
    main: Callable[[VirtualLoop], Coroutine[object, object, T]], *, limit_s: float = LIMIT_S
) -> T:
    """Runs `main` on a loop of its own to its end. Raises: what `main` raises, VirtualTimeError, and CallbackFailed
    when something failed that nobody waited for."""
    loop = VirtualLoop(limit_s=limit_s)
    with _garbage_kept(), asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main(loop))
    if loop.failures:
        raise CallbackFailed(f"{len(loop.failures)} callbacks failed; the first: {loop.failures[0]!r}") from (
            loop.failures[0]
        )
    return result


class _Jumps(selectors.BaseSelector):
    """A selector that waits by moving the clock."""

    def __init__(self, now: float, limit: float) -> None:
        self.now = now
        self.letters: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self.order = itertools.count()
        self.sealed = False
        self.waiting: Callable[[], str] = str
        self.running: Callable[[], str] = str
        self.failed: Callable[[Exception], None]
        self._limit = limit
        self._rounds_count = 0
        self._keys: dict[int, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            self._rounds_count += 1
            if self._rounds_count > LIVELOCK_ROUNDS_COUNT:
                self._rounds_count = 0
                raise Livelock(
                    f"{LIVELOCK_ROUNDS_COUNT} rounds at one instant; ready again: {self.running()}"
                )
            return []
        letters = self.letters
        if letters and (timeout is None or letters[0][0] <= self.now + timeout):
            when, _, callback, args = heapq.heappop(letters)
            if when > self.now:
                self._move(when)
            try:
                callback(*args)
            except Exception as exc:
                self.failed(exc)
            return []
        if timeout is None:
            raise Deadlock(f"nothing is scheduled and nothing is under way; waiting: {self.waiting()}")
        self._move(self.now + timeout)
        return []

    def _move(self, when: float) -> None:
        self._rounds_count = 0
        if when > self._limit:
            # Once: what ends the run may need some time itself.
            limit, self._limit = self._limit, float("inf")
            raise OutOfTime(f"the run did not end by {limit - START_S:g} s; waiting: {self.waiting()}")
        self.now = when

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        if self.sealed:
            raise NotImplementedError(_NO_SOCKETS)
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return {key.fileobj: key for key in self._keys.values()}


def _where(task: asyncio.Task[object]) -> str:
    frames = task.get_stack(limit=1)
    place = f"{frames[0].f_code.co_qualname}:{frames[0].f_lineno}" if frames else "ended"
    return f"{task.get_name()} in {place}"


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """A simulation holds millions of objects that live to its end: looking through them again and again is most of
    its time."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
