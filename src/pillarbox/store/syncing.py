"""fdatasync without a thread: the kernel is asked (io_submit(2), IOCB_CMD_FDSYNC) and tells by a descriptor that it is
done. A thread would have to get the interpreter from the event loop before and after, which costs several switches of
context, five times the CPU of all else about a sync. Where the system has no such call, a thread does it.
"""

import asyncio
import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""Numbers of io_setup, io_destroy, io_getevents and io_submit."""

_FDSYNC = 3  # IOCB_CMD_FDSYNC: fdatasync
_TELL_BY_DESCRIPTOR = 1  # IOCB_FLAG_RESFD

MOST_AT_ONCE = 64
"""More than these at a time are done by threads."""


class _Request(ctypes.Structure):
    """struct iocb of linux/aio_abi.h, on little-endian machines."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("octets", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("result_descriptor", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelSync:
    """The syncs of one event loop. Raises OSError or NotImplementedError when it is made where the system, or the
    loop, does not do it."""

    def __init__(self) -> None:
        numbers = _CALLS.get(platform.machine())
        if numbers is None or not hasattr(os, "eventfd"):
            raise OSError("not on this system")
        setup, self._destroy, self._getevents, self._submit = map(ctypes.c_long, numbers)
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._context = ctypes.c_ulong(0)
        self._events = (_Event * MOST_AT_ONCE)()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._loop.add_reader(self._told, self._done)
            self._call(setup, ctypes.c_long(MOST_AT_ONCE), ctypes.byref(self._context))
        except BaseException:
            with suppress(NotImplementedError):
                self._loop.remove_reader(self._told)
            os.close(self._told)
            raise

    def _call(self, *arguments: object) -> int:
        result: int = self._syscall(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def sync(self, descriptor: int) -> "asyncio.Future[None]":
        """Make a file durable. The future has an OSError where that failed. Raises OSError where it cannot be asked
        for: nothing was done then."""
        self._number += 1
        request = _Request(
            data=self._number,
            opcode=_FDSYNC,
            descriptor=descriptor,
            flags=_TELL_BY_DESCRIPTOR,
            result_descriptor=self._told,
        )
        pointer = ctypes.pointer(request)
        self._call(self._submit, self._context, ctypes.c_long(1), ctypes.byref(pointer))
        future = self._waiting[self._number] = self._loop.create_future()
        return future

    def _done(self) -> None:
        try:
            os.eventfd_read(self._told)
        except BlockingIOError:
            return
        count = self._call(
            self._getevents,
            self._context,
            ctypes.c_long(0),
            ctypes.c_long(MOST_AT_ONCE),
            self._events,
            None,
        )
        for event in self._events[:count]:
            future = self._waiting.pop(event.data)
            if future.done():
                continue  # whoever waited was cancelled
            if event.result < 0:
                future.set_exception(OSError(-event.result, os.strerror(-event.result)))
            else:
                future.set_result(None)

    def close(self) -> None:
        """What is under way is waited for by the kernel. Blocks for that."""
        self._loop.remove_reader(self._told)
        self._syscall(self._destroy, self._context)
        os.close(self._told)


class Syncs:
    """Syncs by the kernel, or by a thread of `executor`; begins with the first one, on its loop."""

    def __init__(self, executor: Executor, sync: Callable[[int], None] = os.fdatasync) -> None:
        """Another `sync` than fdatasync (of a test) is called in the thread."""
        self._executor = executor
        self._sync = sync
        self._may_ask_kernel = sync is os.fdatasync
        self._kernel: KernelSync | None = None

    def sync(self, descriptor: int) -> "asyncio.Future[None]":
        """Make a file durable; the future has an OSError where that failed."""
        if self._may_ask_kernel:
            try:
                if self._kernel is None:
                    self._kernel = KernelSync()
                return self._kernel.sync(descriptor)
            except BlockingIOError:
                pass  # so many are under way
            except (OSError, NotImplementedError):
                self._may_ask_kernel = False
        return asyncio.get_running_loop().run_in_executor(self._executor, self._sync, descriptor)

    def close(self) -> None:
        """When no sync is under way."""
        if self._kernel is not None:
            self._kernel.close()
