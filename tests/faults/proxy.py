"""A TCP proxy in front of a host that does what networks do: in one direction, after byte N."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

_CHUNK_BYTES = 4096
_TRICKLE_S = 0.05


class Fault(StrEnum):
    """What happens to a connection."""

    STALL = "stall"
    """Nothing more comes through, and nobody is told."""
    CUT = "cut"
    """Both ends are told that the other has ended."""
    TRICKLE = "trickle"
    """Twenty bytes a second come through."""
    RESET = "reset"
    """Both ends are told that the connection is broken (RST)."""
    HALF_CLOSE = "half-close"
    """One end is told that the other has ended; what it says still comes through."""


class Way(StrEnum):
    """Which direction is hurt."""

    TO_HOST = "to-host"
    TO_CONTROLLER = "to-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wound:
    """A fault, and where it strikes.

    Attributes:
        after_bytes: so many still come through unharmed in this direction, for each connection anew.
    """

    fault: Fault
    way: Way
    after_bytes: int


@dataclass(slots=True)
class _Pipe:
    """One direction of a connection.

    Attributes:
        passed: how many bytes have come through.
    """

    way: Way
    source: asyncio.StreamReader
    sink: asyncio.StreamWriter
    back: asyncio.StreamWriter
    passed: int = 0


@dataclass(slots=True, kw_only=True)
class Proxy:
    """Listens on a free port of 127.0.0.1 for one host; made by ``Proxies.before``.

    Attributes:
        wound: what happens to connections made from now on; None: nothing.
        most: the most bytes that came through a connection, for each direction.
    """

    address: str
    port: int
    wound: Wound | None = None
    most: dict[Way, int] = field(default_factory=dict)
    listens_on: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_connection(self.address, self.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, ours}
        wound = self.wound
        pipes = (
            _Pipe(Way.TO_HOST, reader, ours, writer),
            _Pipe(Way.TO_CONTROLLER, theirs, writer, ours),
        )
        try:
            await asyncio.gather(*(self._pump(pipe, wound) for pipe in pipes))
        except asyncio.CancelledError:
            # The end of the thread ends its connections; nobody is left to be told.
            pass
        finally:
            for end in (writer, ours):
                self._writers.discard(end)
                end.close()

    async def _pump(self, pipe: _Pipe, wound: Wound | None) -> None:
        hurt = wound if wound is not None and wound.way is pipe.way else None
        with suppress(OSError):
            while chunk := await pipe.source.read(_CHUNK_BYTES):
                left = len(chunk) if hurt is None else min(len(chunk), hurt.after_bytes - pipe.passed)
                if left > 0:
                    await self._pass_on(pipe, chunk[:left])
                if hurt is not None and pipe.passed >= hurt.after_bytes:
                    await self._strike(pipe, hurt.fault, chunk[max(left, 0) :])
                    return
            if pipe.sink.can_write_eof():
                pipe.sink.write_eof()

    async def _pass_on(self, pipe: _Pipe, data: bytes) -> None:
        pipe.sink.write(data)
        await pipe.sink.drain()
        pipe.passed += len(data)
        self.most[pipe.way] = max(self.most.get(pipe.way, 0), pipe.passed)

    async def _strike(self, pipe: _Pipe, fault: Fault, rest: bytes) -> None:
        match fault:
            case Fault.STALL:
                await _gone(pipe.source)
            case Fault.CUT:
                pipe.sink.close()
                pipe.back.close()
            case Fault.RESET:
                for end in (pipe.sink, pipe.back):
                    _reset(end)
            case Fault.HALF_CLOSE:
                pipe.sink.write_eof()
                await _gone(pipe.source)
            case Fault.TRICKLE:
                await self._trickle(pipe, rest)

    async def _trickle(self, pipe: _Pipe, rest: bytes) -> None:
        while rest:
            for byte in rest:
                await self._pass_on(pipe, bytes((byte,)))
                await asyncio.sleep(_TRICKLE_S)
            rest = await pipe.source.read(_CHUNK_BYTES)
        pipe.sink.write_eof()

    def heal(self) -> None:
        """From now on connections come through; those that were hurt are ended."""
        self.wound = None
        for writer in list(self._writers):
            writer.transport.abort()


async def _gone(source: asyncio.StreamReader) -> None:
    """Reads on for nobody, until the other end has had enough."""
    while await source.read(_CHUNK_BYTES):
        pass


def _reset(writer: asyncio.StreamWriter) -> None:
    inner = writer.get_extra_info("socket")
    inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxies:
    """A thread in which proxies run; leaving it ends them and every connection through them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self._servers: list[asyncio.Server] = []
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def before(self, address: str, port: int, wound: Wound | None = None) -> Proxy:
        """A proxy in front of a host."""
        proxy = Proxy(address=address, port=port, wound=wound)
        server = self._do(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
        proxy.listens_on = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        self._proxies.append(proxy)
        return proxy

    def hurt(self, proxy: Proxy, wound: Wound) -> None:
        """Hurts every connection that is made from now on, and ends those that stand."""
        self._do(self._change(proxy, wound))

    def heal(self, *proxies: Proxy) -> None:
        """Lets connections through unharmed from now on, and ends those that were hurt."""
        for proxy in proxies:
            self._do(self._change(proxy, None))

    async def _change(self, proxy: Proxy, wound: Wound | None) -> None:
        proxy.heal()
        proxy.wound = wound

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for proxy in self._proxies:
            proxy.heal()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
