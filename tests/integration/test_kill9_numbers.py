"""The daemon is killed again and again under full load, while vnics send each other numbered frames through both kinds
of rings, and in both socket roles. What was given to the switch arrives, in order; at most one burst comes twice.

The vnics are the load generator's: their rings are driven directly in shared memory, so that a frame in a ring is a frame
that the switch was given, and no guest's kernel or QEMU stands between. They attach again at once.
"""

import os
import time

import pytest
from bench.generator import Generator, mac_of
from lab.proc import wait_until

KILLS = int(os.environ.get("PATCHBAY_KILLS", "20"))
BURST = 32
FRAMES_BETWEEN = 20000  # at each vnic: many laps of the rings
VNICS = ("v0", "v1")


@pytest.fixture(params=["patchbay listens", "patchbay connects"])
def role(request):
    return request.param


@pytest.fixture(params=["split", "packed"])
def generator(host, role, request):
    """Two vnics on one switch, attached."""
    connects = role == "patchbay connects"
    host.clear()
    host.daemon.do("switch", "create", "lab", "--private")
    sockets = {name: f"{host.lab.dir}/{name}.front-end" for name in VNICS}
    for number, (name, socket) in enumerate(sockets.items()):
        host.daemon.do("vnic", "create", name, "--switch", "lab", "--mac", mac_of(number),
                       *(("--connect", socket) if connects else ()))
    if not connects:
        sockets = {name: host.json("vnic", "show", name)["vhost_socket"] for name in VNICS}
    made = Generator(host.netns, host.lab.dir, list(sockets.values()), layout=request.param,
                     role="listen" if connects else "connect")
    try:
        made.start().attached()
        made.link()
        yield made
    finally:
        made.end()


def shown(host):
    return {name: host.json("vnic", "show", name) for name in VNICS}


def under_way(host):
    """Many frames went to each vnic since the daemon started, and none of them was dropped."""
    vnics = shown(host)
    for name, vnic in vnics.items():
        dropped = {reason: frames for reason, frames in vnic["counters"]["drops"].items() if frames}
        assert not dropped, f"{name}: {dropped}"
    return min(vnic["counters"]["to_guest"]["frames"] for vnic in vnics.values()) > FRAMES_BETWEEN


def test_no_numbered_frame_is_lost_over_kill9(host, generator, role):
    generator.endure(seconds=600, quiet_s=10)
    started = []
    for _ in range(KILLS):
        wait_until(lambda: under_way(host), "frames in both directions", 60.0, every_s=0.02)
        host.daemon.kill9()
        started.append(time.monotonic())
        host.daemon.start()
    wait_until(lambda: under_way(host), "frames in both directions", 60.0, every_s=0.02)
    seen = generator.enough()

    back_s = sorted(one["first_frame_at"] - max(at for at in started if at < one["attached_at"])
                    for one in seen["returns"])
    print(f"\n{role}: first frame {min(back_s):.3f} to {max(back_s):.3f} s after the start of the daemon;", seen["receivers"])
    assert len(back_s) == KILLS * len(VNICS) and min(back_s) > 0, seen
    for receiver in seen["receivers"]:
        assert receiver["skipped"] == 0 and receiver["next"] == receiver["sent_to_it"], seen
        assert receiver["steps_back"] <= KILLS and receiver["step_back_max"] <= BURST, seen
    assert {seen["misdelivered"], seen["damaged"], seen["stray"]} == {0}, seen
