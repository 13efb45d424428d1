#!/usr/bin/env python3
"""What splice(2) would save on large bodies: CPU time of moving bytes from one TCP socket to another, by read and write through a
buffer and by splice through a pipe, for bodies of several lengths.

The mover does what a proxy does for each body of a known length and nothing else; source and sink are processes of their own.
Variants are interleaved, the median of the rounds is told, in microseconds of CPU time for each body. A call from Python costs about
half a microsecond more than one from Rust, for both alike.

    benches/splice.py [--rounds 5] [--seconds 1.5]
"""
import argparse
import multiprocessing
import os
import socket
import statistics
import time

LENGTHS = [16 << 10, 64 << 10, 256 << 10, 1 << 20, 8 << 20]
VARIANTS = ["read 64 KiB", "read 256 KiB", "splice 64 KiB", "splice 1 MiB"]


def pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def source(sock, length):
    block = memoryview(bytes(length))
    try:
        while sock.recv(1):
            sock.sendall(block)
    except OSError:
        pass


def sink(sock, length):
    room = bytearray(256 << 10)
    try:
        while True:
            left = length
            while left:
                got = sock.recv_into(room)
                if not got:
                    return
                left -= got
            sock.send(b"!")
    except OSError:
        pass


def by_reading(one, two, length, size):
    room = memoryview(bytearray(size))

    def move():
        left = length
        while left:
            got = one.recv_into(room[: min(left, size)])
            two.sendall(room[:got])
            left -= got

    return move


def by_splicing(one, two, length, size):
    out, into = os.pipe()
    import fcntl

    fcntl.fcntl(into, 1031, size)  # F_SETPIPE_SZ

    def move():
        left = length
        while left:
            got = os.splice(one.fileno(), into, min(left, size), flags=1)  # SPLICE_F_MOVE
            left -= got
            while got:
                got -= os.splice(out, two.fileno(), got, flags=1 | (4 if left else 0))  # SPLICE_F_MORE

    return move


def measure(variant, length, seconds):
    (near, one), (two, far) = pair(), pair()
    helpers = [multiprocessing.Process(target=job, args=(sock, length)) for job, sock in ((source, near), (sink, far))]
    for helper in helpers:
        helper.start()
    near.close()
    far.close()
    how, size, _ = variant.split()
    size = int(size) << (20 if variant.endswith("MiB") else 10)
    move = (by_reading if how == "read" else by_splicing)(one, two, length, size)
    bodies, began, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        one.send(b"?")
        move()
        two.recv(1)
        bodies += 1
    spent = (time.process_time() - began) / bodies
    for sock in (one, two):
        sock.close()
    for helper in helpers:
        helper.terminate()
        helper.join()
    return spent * 1e6


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=1.5)
    options = arguments.parse_args()
    print("| body | " + " | ".join(VARIANTS) + " |\n|---|" + "---|" * len(VARIANTS))
    for length in LENGTHS:
        spent = {variant: [] for variant in VARIANTS}
        for _ in range(options.rounds):
            for variant in VARIANTS:
                spent[variant].append(measure(variant, length, options.seconds))
        row = " | ".join(f"{statistics.median(spent[variant]):.0f}" for variant in VARIANTS)
        print(f"| {length >> 10} KiB | {row} |", flush=True)


if __name__ == "__main__":
    main()
