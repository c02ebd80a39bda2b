"""Rewrites a guest's memory while a back-end reads it: python3 flipper.py MEMORY_FD '[[OFFSET, [HEX, HEX, …]], …]' writes
each of the values to its offset in turn, without a pause, until it is ended or its standard input closes. A process of its
own, so that it really runs beside its guest."""

import json
import mmap
import os
import select
import sys


def main():
    places = [(at, [bytes.fromhex(value) for value in values]) for at, values in json.loads(sys.argv[2])]
    descriptor = int(sys.argv[1])
    memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    writes = [(slice(at, at + len(values[turn % len(values)])), values[turn % len(values)])
              for turn in range(max(len(values) for _, values in places)) for at, values in places]
    while not select.select([0], [], [], 0)[0]:
        for _ in range(2000):
            for where, value in writes:
                memory[where] = value


if __name__ == "__main__":
    main()
