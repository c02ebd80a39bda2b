"""What users do by themselves: attach a VM with the printed arguments, and forget to share its memory."""

import shlex

from lab import guest, wirings
from lab.proc import wait_until

MAC = "02:00:00:00:01:06"


def test_the_printed_arguments_work_as_they_are(net):
    net.daemon.do("vnic", "create", "own", "--switch", "lan", "--vlan", 101)
    text = net.daemon.do("vnic", "attach-args", "own", "--memory", "128M")
    words = [word for line in text.splitlines() if not line.startswith("#") for word in shlex.split(line)]
    if guest.accelerator() == "tcg":  # as the text itself says
        words = [f"{word},vectors=0" if word.startswith("virtio-net-pci") else word for word in words]
    vm = net.lab.add_guest("own")
    try:
        vm.start(words)
        vm.wait_ready()
        vm.set_ip(f"{wirings.SUBNET}.6")
        wirings.wait_connected(net.daemon, ["own"])
        assert vm.run("cat /sys/class/net/eth0/mtu")[1].strip() == "1500"
        for name in ("vm1", wirings.HOST_VNIC):
            assert vm.ping(wirings.ADDRESSES[name], count=2)
        assert not vm.ping(wirings.ADDRESSES["vm3"], wait_s=1)
    finally:
        vm.stop()
        del net.lab.guests["own"]


def test_a_guest_without_shared_memory_is_refused_with_a_reason(net):
    """QEMU gives up by itself, or comes without memory: either way the vnic says what is missing."""
    net.daemon.do("vnic", "create", "deaf", "--switch", "lan", "--vlan", 101)
    vm = net.lab.add_guest("deaf", MAC)
    try:
        vm.start_vhost(net.socket("deaf"), share=False)

        def told():
            view = net.daemon.json("vnic", "show", "deaf")
            assert view["state"] != "connected"
            return "memory" in view["state_reason"] and "shar" in view["state_reason"]
        wait_until(told, "vnic show to say that memory is not shared", 15.0)
    finally:
        vm.stop()
        del net.lab.guests["deaf"]
    net.check_matrix()
