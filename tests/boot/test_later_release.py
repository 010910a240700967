"""The same package on the next release of Debian: what must hold on every system holds there."""

from __future__ import annotations

import pytest

from tests.boot import test_boot as boot
from tests.boot.base import LATER

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(900)]

packages, fresh, installed, machine = boot.packages, boot.fresh, boot.installed, boot.machine


@pytest.fixture(scope="module")
def release() -> str:
    """The release of Debian that the machine is of."""
    return LATER


# They are run in this order.
test_one_command_installs_it = boot.test_one_command_installs_it
test_the_units_are_right_and_tight = boot.test_the_units_are_right_and_tight
test_nothing_gets_through_from_boot_on = boot.test_nothing_gets_through_from_boot_on
test_a_restart_lets_nothing_through = boot.test_a_restart_lets_nothing_through
test_a_killed_daemon_comes_back = boot.test_a_killed_daemon_comes_back_and_lets_nothing_through
test_an_upgrade_lets_nothing_through = boot.test_an_upgrade_lets_nothing_through
test_a_purge_leaves_nothing = boot.test_a_purge_leaves_nothing
