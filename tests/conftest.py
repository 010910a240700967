"""What all tests share: a busy machine makes no test of properties fail."""

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
