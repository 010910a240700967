"""Owns the layout of what the programs read, equal to bpf/abi.h; must not know what it means.

Every map of a compiled policy consists of lines of 64 bytes. Numbers are in the byte order of
the host; keys, addresses and ports in that of the network.
"""

from __future__ import annotations

import struct

ABI = 8

LINE = 64
HOST_LINE_BITS = 14
HOST_LINES = 1 << HOST_LINE_BITS
HOST_PROBES = 8
HASH_PROBES = 8
MAX_STEPS = 4096
MAX_STEPS_UNROLLED = 16
MAX_PATTERNS = 16
IMAGES = 16

FAMILIES = 2
HEADS = 3 * FAMILIES
MARK_LINE = HEADS
FIRST_STEP_LINE = HEADS + 1

INTERFACE_ANY, INTERFACE_LAN, INTERFACE_DIALUP = range(3)
STEP_HASH, STEP_RANGES, STEP_DYNAMIC = range(3)
IF_PORTS, IF_SOURCE_ME, IF_DESTINATION_ME, IF_PROTOCOL, OF_DESTINATION, BLOCKS, COUNTS, AUDITS = (
    1 << bit for bit in range(8)
)
NO_RANGES = 31
HASH_CONTINUES = 0x80000000
LOCAL_OWN, LOCAL_BROADCAST = 1, 2
SHORTCUT_NONE, SHORTCUT_PASS, SHORTCUT_DROP, SHORTCUT_DROP_ME = range(4)
SHORTCUT_BITS = 2
SHORTCUT_PORTS = 4096
SHORTCUT_PROTOCOLS = 2
SHORTCUT_LINES = FAMILIES * SHORTCUT_PROTOCOLS * SHORTCUT_PORTS
CAST_ANY, CAST_MULTICAST, CAST_BROADCAST = range(3)
HAS_PROTOCOL, HAS_SPORT, HAS_DPORT, HAS_HOP_LIMIT, HAS_ICMP_TYPES = (1 << bit for bit in range(5))

PARSE_RESULTS = (
    "parsed",
    "not-ip",
    "link-truncated",
    "network-truncated",
    "network-invalid",
    "too-many-headers",
    "headers-truncated",
    "transport-truncated",
)
UNPARSABLE = PARSE_RESULTS[2:]

HEAD = struct.Struct("=IIIIIIQI4x3Q")
STEPS_OFFSET, FIRST_HOST_OFFSET, GENERATION_OFFSET = 4, 20, 24
EXEMPT_UDP, EXEMPT_TCP, EXEMPT_OTHER = range(3)
EXEMPT_WORDS = 3
EXEMPT_BITS = 64
MARK = struct.Struct("=32s32x")
STEP = struct.Struct("=BBBBIIIHHHH40s")
RANGES = struct.Struct("=QIIIIIBB10x")
PATTERN = struct.Struct("=BBBBHH4s52x")
KEY_MEMBERS = ("saddr", "daddr", "sport", "dport", "protocol")
KEY4 = struct.Struct("=4s4s2s2s1s3x")
KEY6 = struct.Struct("=16s16s2s2s1s3x")
HASH4 = struct.Struct("=48s3II")
HASH6 = struct.Struct("=40sII16x")
HOST4 = struct.Struct("=48s12sI")
HOST6 = struct.Struct("=48s4s8xI")
DYNAMIC4 = struct.Struct("=I16s")
DYNAMIC6 = struct.Struct("=I40s")
DYNAMIC_ENTRY = struct.Struct("=QQQQQ")
COUNT = struct.Struct("=QQ")
REPORTING = struct.Struct("=QQ48x")
REPORT_RING_BYTES = 1 << 20
REPORTED_BYTES = 152
DROPPED, AUDITED = 1, 2
REPORT = struct.Struct(f"=QQIIHBBB3x{REPORTED_BYTES}s")

FOREVER = (1 << 64) - 1

_MASK = FOREVER
_MIX_1 = 0x9E3779B97F4A7C15
_MIX_2 = 0xBF58476D1CE4E5B9


def hash_words(words: tuple[int, ...]) -> int:
    """The hash of a key as the programs compute it from its 64-bit words."""
    value = _MIX_2
    for word in words:
        value = (value ^ word) * _MIX_1 & _MASK
        value ^= value >> 32
    return value
