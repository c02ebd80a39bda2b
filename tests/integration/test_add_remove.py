"""A vnic comes and goes 200 times while two guests run iperf3 and a UDP counter: not one frame of theirs is lost.

Theory  TCP would mend a loss and hide it. So the datagrams are numbered, and each end's own count of frames is held
        against the switch's: sent by one guest, taken in, given out, received by the other.
Limits  TCP with a window that the guest's ring can hold, UDP at a rate at which an emulated guest itself loses nothing.
"""

import json
import os
import threading

import pytest
from front_end import FrontEnd
from lab import wirings
from lab.lab import Lab
from lab.proc import LabError, wait_until
from rest import Rest

TIMES = 200
IPS = {"vm1": "10.77.0.1", "vm2": "10.77.0.2"}
MACS = {"vm1": "02:00:00:00:07:01", "vm2": "02:00:00:00:07:02"}
VISITOR_MAC = "02:00:00:00:07:99"
RUN_S = 10  # of one run of iperf3; runs follow each other until the visitor has come often enough
STREAMS = {"tcp": ["-w", "128K", "-b", "20M"], "udp": ["-u", "-b", "1M", "-l", "500", "-w", "2M"]}
PORTS = {"tcp": 5201, "udp": 5202}


@pytest.fixture
def lab():
    with Lab.create(f"t{os.getpid()}-come") as made:
        made.daemon.start()
        made.daemon.do("switch", "create", "lan", "--internal")
        for name, mac in MACS.items():
            made.daemon.do("vnic", "create", name, "--switch", "lan", "--vlan", 101, "--mac", mac)
            made.add_guest(name, mac).start_vhost(made.daemon.json("vnic", "show", name)["vhost_socket"])
        for name, vm in made.guests.items():
            vm.wait_ready()
            vm.set_ip(IPS[name])
            vm.run("for side in r w; do echo 4194304 > /proc/sys/net/core/${side}mem_max; done")
        wirings.wait_connected(made.daemon, MACS)
        yield made


class Stream(threading.Thread):
    """Runs of iperf3 from vm1 to vm2, one after the other, until it is told to end after this one."""

    def __init__(self, lab, kind):
        super().__init__(daemon=True)
        self.kind = kind
        self.runs = []
        self.last = threading.Event()
        self.error = None
        self._vm = lab.guests["vm1"]
        lab.guests["vm2"].run(f"iperf3 -s -p {PORTS[kind]} -D")

    def run(self):
        words = ["iperf3", "-c", IPS["vm2"], "-p", str(PORTS[self.kind]), "-t", str(RUN_S), "-J", *STREAMS[self.kind]]
        try:
            while not self.last.is_set():
                _, text = self._vm.run(" ".join(words), limit_s=RUN_S + 60.0)
                result = json.loads(text)
                if "error" in result:
                    raise LabError(f"iperf3: {result['error']}")
                self.runs.append(result["end"])
        except Exception as error:  # pylint: disable=broad-except  # the test tells of it
            self.error = error

    def end(self):
        self.last.set()
        self.join(RUN_S + 90.0)
        assert self.error is None, f"{self.kind}: {self.error!r}"
        assert self.runs, f"no {self.kind} run ended"


def test_a_vnic_that_comes_and_goes_disturbs_nobody(lab):
    assert lab.guests["vm1"].ping(IPS["vm2"])
    for vm, other in (("vm1", "vm2"), ("vm2", "vm1")):
        lab.guests[vm].run(f"arp -s {IPS[other]} {MACS[other]}")
    before = counted(lab)
    streams = [Stream(lab, kind) for kind in STREAMS]
    for stream in streams:
        stream.start()
    taken_in = before["vm1"]["in"]
    wait_until(lambda: switch_counters(lab)["vm1"]["in"] > taken_in + 500, "the streams to flow", 60.0)
    come_and_go(lab, streams)
    for stream in streams:
        stream.end()
    check_datagrams(streams)
    now = wait_until(lambda: settled(lab), "a moment in which no frame moves", 20.0)
    change = {name: {key: now[name][key] - before[name][key] for key in ("in", "out", "tx", "rx")} for name in MACS}
    assert {name: now[name]["drops"] for name in MACS} == {name: {} for name in MACS}
    for name, other in (("vm1", "vm2"), ("vm2", "vm1")):
        assert change[name]["tx"] == change[name]["in"] == change[other]["out"] == change[other]["rx"], change
    print(f"frames from vm1 {change['vm1']['in']}, from vm2 {change['vm2']['in']}, none lost")


def come_and_go(lab, streams):
    """The visitor: alternately in the guests' VLAN and in another, with a guest behind it and without."""
    rest = Rest(lab.daemon.api_socket)
    for time in range(TIMES):
        for stream in streams:
            assert stream.is_alive(), f"{stream.kind}: {stream.error!r}"
        vid = 101 if time % 2 else 102
        made = rest.do("POST", "/v1/vnics", {"name": "visitor", "switch": "lan", "mac": VISITOR_MAC,
                                             "vlan": {"mode": "access", "vid": vid}})
        end = FrontEnd(made["vhost_socket"], VISITOR_MAC) if time % 4 > 1 else None
        if end:
            end.start().send(b"\xff" * 6 + end.mac + b"\x88\xb5" + bytes(46) if vid == 102 else bytes(14))
            wait_until(end.reap, "the visitor's frame to be taken", every_s=0.002)
        rest.do("DELETE", "/v1/vnics/visitor")
        if end:
            end.close()


def check_datagrams(streams):
    udp = next(stream for stream in streams if stream.kind == "udp")
    for run in udp.runs:
        (result,) = run["streams"]
        assert result["udp"]["packets"] > 0 and result["udp"]["lost_packets"] == 0, result
        assert result["udp"]["out_of_order"] == 0, result
    datagrams = sum(run["streams"][0]["udp"]["packets"] for run in udp.runs)
    tcp_bytes = sum(run["sum_received"]["bytes"] for stream in streams if stream is not udp for run in stream.runs)
    print(f"\nudp: {datagrams} datagrams in {len(udp.runs)} runs, tcp: {tcp_bytes} bytes")


# ---- The account ----------------------------------------------------------------------------------------------------

def switch_counters(lab):
    return {vnic["name"]: {"in": vnic["counters"]["from_guest"]["frames"],
                           "out": vnic["counters"]["to_guest"]["frames"],
                           "drops": {reason: n for reason, n in vnic["counters"]["drops"].items() if n}}
            for vnic in Rest(lab.daemon.api_socket).get("/v1/vnics")}


def counted(lab):
    """{vm: {"in", "out", "drops": as the switch counted, "tx", "rx": as the guest did}}."""
    ports = switch_counters(lab)
    for name, vm in lab.guests.items():
        kernel = vm.statistics()
        ports[name].update(tx=kernel["tx_packets"], rx=kernel["rx_packets"])
    return ports


def settled(lab):
    before = switch_counters(lab)
    now = counted(lab)
    return now if switch_counters(lab) == before else None
