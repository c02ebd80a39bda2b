"""Rewrites a guest's memory while a back-end reads it: python3 flipper.py MEMORY_FD KICK_FD '[[OFFSET, [HEX, …]], …]'
writes each of the values to its offset in turn, without a pause, until its standard input closes. It kicks the back-end
itself, between two rewrites: who has just woken a worker on the other CPU is sure to run beside it."""

import json
import mmap
import os
import select
import sys


REWRITES = 200  # between two kicks


def main():
    places = [(at, [bytes.fromhex(value) for value in values]) for at, values in json.loads(sys.argv[3])]
    descriptor, kick = int(sys.argv[1]), int(sys.argv[2])
    memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    writes = [(slice(at, at + len(values[turn % len(values)])), values[turn % len(values)])
              for turn in range(max(len(values) for _, values in places)) for at, values in places]
    while not select.select([0], [], [], 0)[0]:
        for _ in range(20):
            os.eventfd_write(kick, 1)
            for _ in range(REWRITES):
                for where, value in writes:
                    memory[where] = value


if __name__ == "__main__":
    main()
