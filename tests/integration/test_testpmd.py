"""An independent front-end: two virtio-user ports of dpdk-testpmd in a loop through Patchbay, both ways at once."""

import re
import shutil
import subprocess

import pytest
from lab import netcheck
from lab.proc import wait_until

MACS = {"a": "02:00:00:00:04:0a", "b": "02:00:00:00:04:0b"}
FRAMES_LEAST = 20_000


class VirtioUserPair:
    """dpdk-testpmd driven by its prompt; forwards from each port to the other."""

    def __init__(self, host, sockets, options, more=()):
        # Line by line: else its output stays in its buffer until it ends.
        command = ["stdbuf", "-oL", "dpdk-testpmd", "--no-shconf", "--file-prefix", "patchbay-lab", "--no-pci", "--no-huge", "-m", "256",
                   "--single-file-segments", "-l", "0,1", "--no-telemetry"]
        for number, (vnic, socket) in enumerate(sockets.items()):
            command += ["--vdev", f"net_virtio_user{number},path={socket},mac={MACS[vnic]},queue_size=256,{options}"]
        command += ["--", "-i", "--forward-mode=io", "--total-num-mbufs=8192", "--no-mlockall",
                    f"--eth-peer=0,{MACS['b']}", f"--eth-peer=1,{MACS['a']}", *more]
        self._process = host.netns.start("testpmd", *command, stdin=subprocess.PIPE)
        self.log = self._process.log

    def say(self, text):
        self._process.popen.stdin.write(text.encode() + b"\n")
        self._process.popen.stdin.flush()

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_text(self, pattern, limit_s=20.0):
        def found():
            self._process.check()
            return re.search(pattern, self.text())
        return wait_until(found, f"testpmd to print {pattern}", limit_s)

    def totals(self):
        """[(received, sent)] of both ports, every frame since they started."""
        self.say("show port stats all")
        block = r"NIC statistics for port %d .*?RX-packets: (\d+).*?TX-packets: (\d+)"
        found = [self.wait_text("(?s)" + block % port) for port in (0, 1)]
        return [(int(match[1]), int(match[2])) for match in found]

    def received_by_queue(self, queues):
        """[[received of each queue] of each port]."""
        self.say("show port xstats all")
        block = r"(?s)NIC extended statistics for port %d.*?" + ".*?".join(
            rf"rx_q{queue}_good_packets: (\d+)" for queue in range(queues))
        return [[int(count) for count in self.wait_text(block % port).groups()] for port in (0, 1)]

    def end(self):
        self._process.stop()


def looping_pair(host, options, more=(), create=()):
    """Two vnics, made with the words of `create`, and testpmd at both, waiting for its first frames."""
    if not shutil.which("dpdk-testpmd"):
        pytest.skip("dpdk-testpmd is not installed")
    host.clear()
    host.daemon.do("switch", "create", "lab", "--private")
    for vnic, mac in MACS.items():
        host.daemon.do("vnic", "create", vnic, "--switch", "lab", "--mac", mac, *create)
    sockets = {vnic: host.json("vnic", "show", vnic)["vhost_socket"] for vnic in MACS}
    open(f"{host.lab.dir}/testpmd.log", "wb").close()
    return VirtioUserPair(host, sockets, options, more)


def loop_frames(host, pmd):
    """Lets frames go round, and stops."""
    pmd.wait_text("testpmd> ")
    wait_until(lambda: all(host.json("vnic", "show", vnic)["state"] == "connected" for vnic in MACS),
               "both ports to connect")
    pmd.say("start tx_first 8")
    wait_until(lambda: all(host.json("vnic", "show", vnic)["counters"]["to_guest"]["frames"] > FRAMES_LEAST
                           for vnic in MACS), "frames in both directions", 60.0)
    pmd.say("stop")
    pmd.wait_text("Accumulated forward statistics")


@pytest.mark.parametrize("packed", [0, 1])
def test_flows_share_two_queue_pairs(host, packed):
    pmd = looping_pair(host, f"packed_vq={packed},queues=2", create=("--queues", 2),
                       more=("--rxq=2", "--txq=2", "--txonly-multi-flow"))
    try:
        loop_frames(host, pmd)
        assert [host.json("vnic", "show", vnic)["queues_used"] for vnic in MACS] == [2, 2]
        received = pmd.received_by_queue(2)
        totals = pmd.totals()
        [account] = netcheck.settled_accounts(host.daemon)
    finally:
        pmd.end()
    assert account.difference == 0, account
    for vnic, by_queue, (count, sent) in zip(MACS, received, totals):
        assert sum(by_queue) == count and min(by_queue) > FRAMES_LEAST / 10, (received, totals)
        assert account.ports[vnic]["in"] == sent, (account, totals)
        assert 0 <= account.ports[vnic]["out"] - count <= 2 * 256, (account, totals)


@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("mergeable", [0, 1])
@pytest.mark.parametrize("packed", [0, 1])
def test_frames_loop_between_two_virtio_user_ports(host, packed, mergeable, in_order):
    pmd = looping_pair(host, f"packed_vq={packed},mrg_rxbuf={mergeable},in_order={in_order}")
    try:
        loop_frames(host, pmd)
        totals = pmd.totals()
        [account] = netcheck.settled_accounts(host.daemon)
    finally:
        pmd.end()
    assert account.difference == 0, account
    assert account.total("drops") == account.total("copies") == 0, account
    for port, (received, sent) in zip(MACS, totals):
        assert account.ports[port]["in"] == sent, (account, totals)
        # Delivered, but not fetched any more when testpmd stopped: at most one ring of 256.
        assert 0 <= account.ports[port]["out"] - received <= 256, (account, totals)
