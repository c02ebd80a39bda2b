"""Frames byte by byte at an interface of a namespace: send any, see all, tags as they were on the wire."""

import ctypes
import os
import select
import socket
import struct
import threading
import time

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_OUTGOING = 4
_TP_STATUS_VLAN_VALID = 1 << 4
_TP_STATUS_VLAN_TPID_VALID = 1 << 6
_SO_RCVBUFFORCE = 33


def _in_netns(name, make):
    """What make() gives inside namespace `name`: a socket belongs to the namespace in which it was made."""
    results = []

    def enter():  # a thread of its own: the namespace is a property of the thread, which ends here
        descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter namespace {name}")
            results.append(make())
        except OSError as error:
            results.append(error)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(results[0], OSError):
        raise results[0]
    return results[0]


class RawPort:
    """Sends and receives whole frames at `interface`. What the interface itself sends is not received."""

    def __init__(self, netns, interface):
        # Protocol 0 hears nothing until bind(): with another one it would hear every interface meanwhile.
        self._socket = _in_netns(netns.name, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, *frames):
        for frame in frames:
            self._socket.send(bytes(frame))

    def receive(self, wanted, count=1, limit_s=5.0, quiet_s=0.5):
        """Frames for which wanted(frame) holds: waits until there are `count`, then quiet_s longer for one too many;
        at most limit_s in all. Gives what came: the caller counts."""
        found = []
        end = time.monotonic() + limit_s
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self._socket], [], [], left)
            if not readable:
                break
            frame = self._read()
            if frame is not None and wanted(frame):
                found.append(frame)
                if len(found) == count:
                    end = min(end, time.monotonic() + quiet_s)
        return found

    def pending(self):
        """The frames that have arrived by now."""
        frames = []
        while select.select([self._socket], [], [], 0)[0]:
            frame = self._read()
            if frame is not None:
                frames.append(frame)
        return frames

    def drain(self):
        while select.select([self._socket], [], [], 0)[0]:
            self._read()

    def _read(self):
        data, control, _, address = self._socket.recvmsg(1 << 17, 256)
        if address[2] == _PACKET_OUTGOING:
            return None
        for level, kind, content in control:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = struct.unpack_from("=IIIHHHH", content)
                if status & _TP_STATUS_VLAN_VALID:  # the kernel keeps the tag apart: put it back
                    tpid = tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100
                    data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
        return data
