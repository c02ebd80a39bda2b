"""Fixtures of the integration tests.

arena  two guests that talk undisturbed, and a place for an attacker (arena.py). One per test module.
host   an empty host of its own: a namespace, patchbayd and its CLI; no guests. One per test module.
bed    four real guests, a physical switch with a host in each VLAN, one NIC more with a raw wire; one per session.
net    the bed, wired anew for this test (pytest.mark.wiring, default "3"); afterwards every frame must be accounted
       for. `rewired` is the same for tests that leave the wiring as it is: it is wired once for a row of them.
igb_qemu  a QEMU that emulates the NIC of an appliance (lab/appliance.py); tests skip where there is none. A module that
       needs an appliance makes it in a fixture of its own called `appliance`.

A failed test leaves logs, counters and a capture in build/lab-logs.
"""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tools"))
sys.path.insert(0, os.path.dirname(__file__))

from arena import Arena  # noqa: E402
from bed import Bed  # noqa: E402
from lab import qemu10  # noqa: E402
from lab.lab import Lab  # noqa: E402
from lab.netns import veth  # noqa: E402


def lab_name(what):
    return f"t{os.getpid()}-{what}"


@pytest.fixture(scope="session", autouse=True)
def _root():
    if os.geteuid() != 0:
        pytest.skip("the integration tests make network namespaces: run them as root")


@pytest.fixture(params=["patchbay listens", "patchbay connects"])
def role(request):
    """Who listens on the vhost-user socket."""
    return request.param


@pytest.fixture(params=["split", "packed"])
def layout(request):
    """Of the rings."""
    return request.param


class Host:
    """What tests of the daemon and its CLI need: one running patchbayd in an empty network namespace."""

    def __init__(self, lab):
        self.lab = lab
        self.netns = lab.host
        self.daemon = lab.daemon
        self.api_socket = lab.daemon.api_socket
        self.state_dir = lab.daemon.state_dir
        self.run_dir = lab.daemon.run_dir
        self._peers = None

    def cli(self, *words):
        """Runs `patchbay WORDS…`: returncode, stdout, stderr."""
        return self.daemon.cli(*words)

    def json(self, *words):
        """What `patchbay --json WORDS…` prints, parsed; it must work."""
        return self.daemon.json(*words)

    def add_nic(self, name):
        """A NIC with carrier, for External switches; its other end is in a namespace of its own."""
        if self._peers is None:
            self._peers = self.lab.add_netns("peers")
        veth(self.netns, name, self._peers, name)
        return name

    @property
    def peers(self):
        """The namespace with the other ends of the NICs."""
        return self._peers

    def clear(self):
        """Deletes every vnic, switch, team and policy, for the next test."""
        from lab import wirings
        wirings.clear(self.daemon)


def at_rest(shown):
    """What `show --json` says, without what moves by itself: counters and workers."""
    del shown["workers"], shown["host"]["buffer"]["used_bytes"]
    for vnic in shown["vnics"]:
        del vnic["counters"], vnic["buffer"]
        for queue in (vnic["vmq"] or {"queues": ()})["queues"]:
            for moving in ("queue", "worker", "frames", "bytes", "drops"):  # its number is the next free one
                del queue[moving]
    for switch in shown["switches"]:
        if switch["uplink"]:
            del switch["uplink"]["counters"]
    for team in shown["teams"]:
        del team["counters"], team["failovers"], team["announcements"]
        for member in team["members"]:
            del member["counters"], member["lacp"]
    return shown


def settled(host):
    """`show --json` at rest, and the interfaces and sockets that stand for vnics."""
    shown = at_rest(host.json("show"))
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(host.run_dir) for name in names)
    return shown, files, host.netns.run("ls", "/sys/class/net").stdout


@pytest.fixture(scope="module")
def host(_root):
    with Lab.create(lab_name("host")) as lab:
        lab.daemon.start()
        yield Host(lab)


@pytest.fixture(scope="module")
def arena(_root):
    with Lab.create(lab_name("arena")) as lab:
        made = Arena(lab)
        yield made
        made.close()


@pytest.fixture(scope="session")
def bed(_root):
    with Bed(lab_name("bed")) as made:
        yield made


@pytest.fixture(scope="session")
def igb_qemu(_root):
    try:
        return qemu10.find()
    except qemu10.Unavailable as reason:
        pytest.skip(str(reason))


def _wiring(request):
    marker = request.node.get_closest_marker("wiring")
    return ((*marker.args, "3")[0], marker.kwargs) if marker else ("3", {})


@pytest.fixture
def net(bed, request):
    name, options = _wiring(request)
    bed.use(name, **options)
    yield bed
    if not getattr(request.node, "failed", False):
        bed.check_account()


@pytest.fixture
def rewired(bed, request):
    name, options = _wiring(request)
    bed.use_again(name, **options)
    yield bed
    if not getattr(request.node, "failed", False):
        bed.check_account()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if not report.failed:
        return
    item.failed = True
    for name in ("net", "rewired", "bed", "host", "bench", "lab", "appliance", "arena"):
        fixture = getattr(item, "funcargs", {}).get(name)
        if fixture is not None:
            lab = getattr(fixture, "lab", fixture)
            report.sections.append(("lab", f"logs are in {lab.keep_logs(item.name)}"))
            break


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items):
    """Where several processes run the tests (-n, --dist loadgroup): a module stays in one, and so does all that shares the
    bed of this file. What takes longest comes first: the bed's tests in one process, the soaks in another."""
    def shares_bed(item):
        beds = item._fixtureinfo.name2fixturedefs.get("bed")  # pylint: disable=protected-access
        return bool(beds) and beds[-1].func.__module__ == __name__
    for item in items:
        item.add_marker(pytest.mark.xdist_group("bed" if shares_bed(item) else item.module.__name__))
    items.sort(key=lambda item: (not shares_bed(item), "soak" not in item.module.__name__))


def pytest_configure(config):
    config.addinivalue_line("markers", "xdist_group(name): which tests stay in one process; set by what they share")
    config.addinivalue_line("markers", "wiring(name, nics=None, connect=False): how `net` is wired, as Bed.use()")
