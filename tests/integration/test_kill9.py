"""The daemon is killed with four guests up: after its restart everybody is reachable again, and no guest restarted."""

import pytest
from lab import wirings


@pytest.mark.parametrize("role", ["patchbay listens",
                                  pytest.param("patchbay connects", marks=pytest.mark.wiring("3", connect=True))])
def test_guests_and_daemon_find_each_other_again(net, role):
    net.check_matrix()
    processes = {name: vm.process.pid for name, vm in net.guests.items()}
    before = net.daemon.json("vnic", "list")
    net.check_account()

    net.daemon.kill9()
    net.daemon.start()
    wirings.wait_connected(net.daemon, wirings.VMS)

    after = net.daemon.json("vnic", "list")
    for key in ("name", "switch", "mac", "vlan", "vhost_socket"):
        assert [vnic[key] for vnic in after] == [vnic[key] for vnic in before], role
    net.rebase()
    net.check_matrix()
    assert {name: vm.process.pid for name, vm in net.guests.items() if vm.running()} == processes


def test_a_polite_stop_leaves_the_host_vnic_for_the_next_run(net):
    """Addresses of a host vnic are the administrator's: they survive the daemon."""
    assert net.daemon.stop() == 0
    shown = net.lab.host.run("ip", "-4", "addr", "show", wirings.HOST_VNIC).stdout
    assert wirings.ADDRESSES[wirings.HOST_VNIC] in shown
    net.daemon.start()
    wirings.wait_connected(net.daemon, wirings.VMS)
    net.rebase()
    net.check_matrix()
