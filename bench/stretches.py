"""Owns sending frames in stretches by one core, which receives them too, and what that takes.

A wire of two veth devices queues nothing: a frame that is handed to one end is received at the
other before the call returns, and so it is paid for by the thread that sends. What else the machine
does is not in that thread's time. Must not know any rules.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import time
from collections.abc import Sequence

FRAMES = 64
"""How many frames one system call sends."""
PACKET_QDISC_BYPASS, SOL_PACKET = 20, 263
LIBC = ctypes.CDLL(None, use_errno=True)


class Piece(ctypes.Structure):
    """``struct iovec`` (sys/uio.h)."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Message(ctypes.Structure):
    """``struct mmsghdr`` (sys/socket.h)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),
        ("sent", ctypes.c_size_t),
    )


class Stretches:
    """Frames in stretches, each of which one system call sends."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.count = len(frames) // FRAMES
        data = b"".join(frames)
        self._data = ctypes.create_string_buffer(data, len(data))
        self._pieces = (Piece * len(frames))()
        self._messages = (Message * len(frames))()
        place = ctypes.addressof(self._data)
        for n, frame in enumerate(frames):
            self._pieces[n] = Piece(place, len(frame))
            piece = ctypes.addressof(self._pieces) + n * ctypes.sizeof(Piece)
            self._messages[n] = Message(pieces=piece, count=1)
            place += len(frame)

    def send(self, sock: socket.socket, stretch: int) -> None:
        """Send one; every frame is received before this returns."""
        place = ctypes.addressof(self._messages) + stretch * FRAMES * ctypes.sizeof(Message)
        done = 0
        while done < FRAMES:
            here = ctypes.c_void_p(place + done * ctypes.sizeof(Message))
            sent = LIBC.sendmmsg(sock.fileno(), here, FRAMES - done, 0)
            # The queue of what has come may be full for a moment.
            assert sent > 0 or ctypes.get_errno() == errno.ENOBUFS
            done += max(sent, 0)

    def seconds(self, sock: socket.socket, stretch: int) -> float:
        """Send one, and say what it took of this thread's time."""
        begun = time.thread_time()
        self.send(sock, stretch)
        return time.thread_time() - begun


def raw_socket(device: str) -> socket.socket:
    """A socket that gives frames to a device of this network namespace, without a queue."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    sock.bind((device, 0))
    return sock
