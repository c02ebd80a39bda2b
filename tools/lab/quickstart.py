"""python3 -m lab.quickstart up|stop|status: the main job, for real, as the user sees it."""

import argparse
import json
import os
import sys

from . import guest as guests
from . import image, wirings
from .daemon import Daemon, program
from .guest import Guest
from .lab import Lab, cleanup, cleanup_abandoned, directory
from .netcheck import End, matrix, table, wrong
from .netns import Netns
from .proc import LabError, Record, run

NAME = os.environ.get("PATCHBAY_LAB_NAME", "quickstart")  # tests run one beside the user's


def say(text):
    print(text, flush=True)


def up(wiring_name, nic):
    cleanup_abandoned()
    if os.path.isdir(directory(NAME)):
        say("quickstart: it is up already; stopping it first")
        cleanup(NAME)
    plan = wirings.wiring(wiring_name)
    if nic and len(plan.switches) > 1:
        raise LabError(f"--nic gives one NIC, wiring {plan.name} needs {len(plan.switches)}; use wiring 1 or 3")
    if nic:
        refuse_used_nic(nic)
    say(f"== wiring {plan.name}: {plan.title}")
    with Lab.create(NAME, own_host=not nic) as lab:
        wire = None
        if nic:
            refuse_taken_names()
            lab.record.add("link", name=wirings.HOST_VNIC)
        else:
            say("== starting the physical network: Open vSwitch with a host in VLAN 101 and one in VLAN 102")
            wire = wirings.Wire(lab).build(plan.ports)
            wire.set_ports(plan.ports)
        say("== starting patchbayd")
        lab.daemon.start()
        for words in wirings.create(lab.daemon, plan, nics={"trunk0": nic} if nic else None):
            say(f"   patchbay {' '.join(words)}")
        wirings.set_host_ip(lab)
        start_guests(lab)
        ends = wirings.ends(lab, plan, wire)
        code = report(lab, ends)
        lab.detach({"wiring": plan.name, "nic": nic, "ends": [[e.name, e.address, e.vid, e.kind] for e in ends]})
        say(how_to_attach(lab, plan))
        return code


def refuse_used_nic(nic):
    """The demonstration must not cut its user off: it takes only a NIC that the host does not use."""
    if not os.path.exists(f"/sys/class/net/{nic}"):
        raise LabError(f"nic {nic} does not exist; `ip link` shows what there is")
    [link] = json.loads(run("ip", "-j", "addr", "show", "dev", nic).stdout)
    used = [f"{address['local']}/{address['prefixlen']}" for address in link["addr_info"]
            if address["scope"] not in ("link", "host")]
    used += [f"the route to {route['dst']}" for version in ("-4", "-6")
             for route in json.loads(run("ip", "-j", version, "route", "show", "dev", nic).stdout or "[]")
             if route.get("protocol") != "kernel"]
    if used:
        raise LabError(f"this host uses nic {nic} itself ({', '.join(used[:6])}); give a NIC without addresses. "
                       f"Patchbay can share {nic} with the host: docs/operations/sharing-a-nic.md")


def refuse_taken_names():
    if os.path.exists(f"/sys/class/net/{wirings.HOST_VNIC}"):
        raise LabError(f"this host has an interface {wirings.HOST_VNIC} already; rename it, or go without --nic")


def start_guests(lab):
    say(f"== booting four guests ({guests.accelerator().upper()})")
    for name in wirings.VMS:
        view = lab.daemon.json("vnic", "show", name)
        lab.add_guest(name, view["mac"]).start_vhost(view["vhost_socket"])
    for name in wirings.VMS:
        lab.guests[name].wait_ready()
        lab.guests[name].set_ip(wirings.ADDRESSES[name])
    wirings.wait_connected(lab.daemon, wirings.VMS)


def report(lab, ends):
    say("== this is what there is (patchbay show)\n")
    say(lab.daemon.do("show"))
    say("== pinging every pair; all are in one IP subnet, only their VLANs keep them apart\n")
    seen = matrix(ends)
    say(table(ends, seen))
    problems = wrong(ends, seen)
    if problems:
        say("\nNOT as expected: " + "; ".join(problems))
        say(f"logs: {lab.keep_logs('matrix')}")
        return 1
    say("\nAs expected: the same VLAN reaches each other, through the wire too; other VLANs never.")
    return 0


def how_to_attach(lab, plan):
    switch = plan.switches[0].name
    vlan = " --vlan 101" if plan.name == "3" else ""
    tcg = guests.accelerator() == "tcg"
    inside = f"ip netns exec {lab.host.name} " if lab.host.name else ""
    qemu = ("qemu-system-x86_64 -accel tcg -m 256M $ARGS,vectors=0" if tcg else
            "qemu-system-x86_64 -accel kvm -cpu host -m 256M $ARGS")
    note = "\n(KVM does not work on this machine: hence -accel tcg, and vectors=0 for QEMU 7.2.)" if tcg else ""
    return f"""
== attach a VM of your own (as root; put your disk and memory in)

export PATCHBAY_API={lab.daemon.api_socket} PATH=$PATH:{os.path.dirname(program('patchbay'))}
patchbay vnic create myvm --switch {switch}{vlan}
ARGS=$(patchbay vnic attach-args myvm --memory 256M | grep -v '^#')
{qemu} -nodefaults -drive file=YOUR-DISK.qcow2,if=virtio -vnc :1{note}

or, with no disk at hand, the shell of a small Linux in place of the last line:
{qemu} -nodefaults -nographic -serial stdio \\
  -kernel {image.kernel()[0]} \\
  -initrd {image.cache_dir()}/initramfs.cpio -append "console=ttyS0 quiet lab.shell"

Inside, give it an address: ip addr add {wirings.SUBNET}.10/24 dev eth0; ping {wirings.ADDRESSES['vm1']}
From this host: {inside}ping {wirings.SUBNET}.10

It stays up until ./quickstart stop; ./quickstart status shows it again. Logs: {lab.dir}"""


def stop():
    cleanup_abandoned()
    facts = read_facts()
    if facts and facts.get("nic"):  # in the host's own network: leave no interface of ours
        daemon = Daemon(directory(NAME), Netns(Record(directory(NAME)), directory(NAME), None))
        try:
            wirings.clear(daemon)
        except LabError as error:
            say(f"quickstart: {error}; going on")
    say("quickstart: stopped, nothing is left" if cleanup(NAME) else "quickstart: it was not up")
    return 0


def read_facts():
    try:
        with open(os.path.join(directory(NAME), "facts.json"), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def status():
    facts = read_facts()
    if not facts:
        say("quickstart: not up; start it with ./quickstart")
        return 1
    place = directory(NAME)
    record = Record(place)

    def netns(role):
        return Netns(record, place, None if facts["nic"] and role == "host" else f"pb-{NAME}-{role}")

    daemon = Daemon(place, netns("host"))
    say(daemon.do("show"))
    ends = []
    for name, address, vid, kind in facts["ends"]:
        if kind == "guest":
            guest = Guest(record, place, name)
            guest.ip = address
            guest.adopt()
            ends.append(End.of_guest(guest, vid))
        else:
            ends.append(End.of_netns(netns("host" if kind == "host vnic" else name), name, address, vid, kind))
    seen = matrix(ends)
    say(table(ends, seen))
    problems = wrong(ends, seen)
    say("As expected." if not problems else "NOT as expected: " + "; ".join(problems))
    say(f"API: {daemon.api_socket}   logs: {place}")
    return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser(prog="quickstart", description="Patchbay's main job on real guests.")
    commands = parser.add_subparsers(dest="command")
    parser.add_argument("--wiring", default="3", choices=list(wirings.WIRINGS), help="default: 3, a VLAN for each vnic")
    parser.add_argument("--nic", help="use this NIC of the host instead of a lab of its own")
    for name in ("up", "stop", "status"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    try:
        if arguments.command == "stop":
            return stop()
        if arguments.command == "status":
            return status()
        return up(arguments.wiring, arguments.nic)
    except LabError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
