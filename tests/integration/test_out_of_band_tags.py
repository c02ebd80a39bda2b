"""A neighbour whose kernel keeps VLAN tags beside the frame, as 8021q does: they must survive the way in."""

import os
import shutil

import pytest
from bed import RAW_NIC
from lab.proc import run

ADDRESS = "10.77.0.150"


def push_tags(net, vid):
    """Makes the raw namespace a host in VLAN `vid`. Skips where kernel or tools cannot do it."""
    if not shutil.which("clang"):
        pytest.skip("clang, which compiles the tc program, is not installed")
    program = os.path.join(net.lab.dir, f"push_tag_{vid}.o")
    run("clang", "-O2", "-target", "bpf", f"-DVLAN_ID={vid}", "-c",
        os.path.join(os.path.dirname(__file__), "push_tag.c"), "-o", program)
    net.raw.run("tc", "qdisc", "del", "dev", "eth0", "clsact", check=False)
    net.raw.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    for direction, section in (("egress", "tc_push"), ("ingress", "tc_pop")):
        done = net.raw.run("tc", "filter", "add", "dev", "eth0", direction, "bpf", "direct-action", "object-file",
                           program, "section", section, check=False)
        if done.returncode != 0:
            pytest.skip(f"this kernel takes no BPF program at tc: {done.stderr.strip()}")


@pytest.fixture
def offloading_host(net):
    features = net.raw.run("ethtool", "-k", "eth0").stdout
    assert "tx-vlan-offload: on" in features  # else the kernel would write the tag into the frame
    yield net
    net.raw.run("tc", "qdisc", "del", "dev", "eth0", "clsact", check=False)
    net.raw.run("ip", "addr", "flush", "dev", "eth0")


@pytest.mark.wiring("3", nics={"trunk0": RAW_NIC})
@pytest.mark.parametrize("vid, same, other", [(101, "vm1", "vm3"), (102, "vm3", "vm1")])
def test_tags_beside_the_frame_decide_who_gets_it(offloading_host, vid, same, other):
    net = offloading_host
    push_tags(net, vid)
    net.raw.set_ip("eth0", ADDRESS)
    assert net.raw.ping(net.guests[same].ip, count=3)
    assert net.guests[same].ping(ADDRESS, count=3)
    assert not net.raw.ping(net.guests[other].ip, wait_s=1)
    assert not net.guests[other].ping(ADDRESS, wait_s=1)
