"""guest_numbers.c inside a QEMU guest: numbered frames, sent to a peer and received from it."""

import struct

from .proc import wait_until


def frame(target, source, number, size=62):
    """As guest_numbers sends it, if it has 62 bytes: it looks at no others. `target`, `source`: addresses as text."""
    head = bytes.fromhex(target.replace(":", "") + source.replace(":", "")) + b"\x88\xb5" + struct.pack("!I", number)
    return head + bytes(size - len(head))


def number_of(data):
    return struct.unpack_from("!I", data, 14)[0]


def start(vm, peer_mac):
    """It receives from here on. Again in the same guest: it counts anew."""
    vm.run(f"guest_numbers eth0 {peer_mac} >/tmp/numbers 2>&1 & echo $! >/tmp/pid; "
           "until grep -q ready /tmp/numbers; do usleep 10000; done")


def stop(vm):
    vm.run("kill $(cat /tmp/pid)")


def toggle_sending(vm):
    vm.run("kill -USR1 $(cat /tmp/pid)")


def report(vm):
    """{"sent": …, "next": …, …} of guest_numbers, and the gaps as it prints them. "longest_gap_us": since the last
    report."""
    lines = int(vm.run("wc -l </tmp/numbers; kill -USR2 $(cat /tmp/pid)")[1])
    words = wait_until(lambda: vm.run(f"tail -n +{lines + 1} /tmp/numbers")[1], "a report").split()
    keys = ("sent", "refused", "next", "skipped", "steps_back", "step_back_max", "lost_by_socket",
            "longest_gap_us")
    return dict(zip(keys, map(int, words)), gaps=words[len(keys):])
