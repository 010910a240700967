"""What all tests share: neither a busy machine nor how the run was begun makes a test fail."""

import signal

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
# A shell has what it runs in the background ignore Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
