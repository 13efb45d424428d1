#!/usr/bin/env python3
"""A fleet of real caches behind Ringway, nginx and HAProxy, one after the other, through the same day: caches join, one key gets hot, one
cache dies, comes back cold, flaps, leaves. What the origin and the busiest cache had to bear.

    benches/lab/lab.py [--binary target/release/ringway] [--out FOLDER] [--proxies ringway,nginx,...] [--until PART] [--parts PART,...]
                       [--trace FILE]
    benches/lab/lab.py --draw FOLDER             # table and picture of all days in a folder

The same questions (drawn once, by Zipf's law, or the first of a trace: 32-bit numbers, big-endian, one for each request) are asked in each period, in the same order and at the same moments, at a constant rate whatever
becomes of them. So each moment of a disturbed period has its undisturbed counterpart, and what differs is no chance of the draw. README.md
tells what is counted. Needs varnishd, nginx, haproxy and a C compiler; only loopback is used, and only what was started is ended.
"""

import argparse
import array
import bisect
import collections
import json
import lzma
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

from day import BODY, CACHES, CONNECTIONS, DAY, HALF, HOT, JOINING, OBJECTS, ORIGIN_MS, OVERHEAD, PERIOD, RATE, ROOM, ROOT, SKEW
from servers import PROXIES, STARTED, Cache, Process, Ringway, answers, free_port, wait_until
from told import is_of_hot, picture, summary, table


def drawn():
    """The questions of a period, the same ones each time this runs."""
    dice, total, sums = random.Random(20_261_201), 0.0, []
    for rank in range(1, OBJECTS + 1):
        total += 1 / rank ** SKEW
        sums.append(total)
    return array.array("I", [bisect.bisect_left(sums, dice.random() * total) for _ in range(RATE * PERIOD)])


def traced(file):
    """The first questions of a trace; objects are numbered as they come."""
    keys = array.array("I", lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes())
    keys.byteswap()
    if len(keys) < RATE * PERIOD:
        # Asked twice, its beginning would be a hit in every period: seconds without a miss are no measure of others.
        raise SystemExit(f"lab: {file} has {len(keys)} requests, a period takes {RATE * PERIOD}")
    numbers = {}
    return array.array("I", [numbers.setdefault(keys[at], len(numbers) + 1) for at in range(RATE * PERIOD)])


def fit_to(block):
    """Has the caches hold half of what is asked for, and ramps last for as long as it takes to ask for so much; gives the size of an object."""
    half = len(set(block)) / 2
    Ringway.ramp = half / RATE
    Ringway.fill = 2 * Ringway.ramp
    return round(CACHES * ROOM / half) - OVERHEAD


def periods_of(until, parts):
    """The day up to a part of it, or with nothing but some parts beside what each day begins with."""
    if not parts:
        return DAY[:[name for name, _ in DAY].index(until) + 1]
    named = {name: (name, base) for name, base in DAY[5:] if name}
    wrong = [part for part in parts if part not in named]
    if wrong:
        raise SystemExit(f"lab: --parts takes {', '.join(named)}; a day has steady and join in any case")
    chosen = [named[part] for part in named if part in parts]
    return DAY[:5] + [one for part in chosen for one in (part, ("", 0))][:-1]


def clients(tool, folder, port, questions, rate, connections):
    """Begins to ask; gives the process and when it began."""
    folder.mkdir(parents=True)
    (folder / "questions").write_bytes(questions.tobytes())
    asking = Process(folder, [tool, "ask", port, folder / "questions", rate, connections, folder / "records"], stdout=subprocess.PIPE)
    return asking, float(asking.line())


def live(kind, folder, binary, tool, periods, block, body):
    """One proxy's day: what was asked, by whom it was answered, and when the origin was asked."""
    origin_port = free_port()
    origin = Process(folder / "origin", [tool, "origin", origin_port, ORIGIN_MS, body, folder / "origin/asked"], stdout=subprocess.PIPE)
    origin_start = float(origin.line())
    proxy = kind(folder / "proxy", binary, origin_port)
    caches = [Cache(folder / f"c{number}", f"c{number}", proxy.backend) for number in range(1, CACHES + JOINING + 1)]
    for cache in caches:
        wait_until(cache.name, cache.is_ready)
    first = caches[:CACHES]
    proxy.start(first)
    wait_until(proxy.label, lambda: answers(proxy.port))
    # Twice through it as fast as it goes: from then on each period finds what the one before has left.
    filling, _ = clients(tool, folder / "filling", proxy.port, block + block, 0, 600)
    filling.child.wait()
    holds = sum(cache.holds() for cache in first)
    print(f"{proxy.label}: {len(set(block))} objects in a period, the caches hold {holds}", flush=True)
    day = array.array("I")
    for name, _ in periods:
        day += array.array("I", [HOT if is_of_hot(at) else it for at, it in enumerate(block)]) if name == "hot key" else block
    asking, start = clients(tool, folder / "day", proxy.port, day, RATE, CONNECTIONS)

    def at(period, second=0.0):
        time.sleep(max(0.0, start + period * PERIOD + second - time.time()))

    victim, leaver = caches[2], caches[4]
    for period, (name, _) in enumerate(periods):
        at(period)
        if name == "join":
            proxy.change(caches)
        elif name == "die":
            victim.process.kill()
            at(period, HALF)
            victim.process.start()
        elif name == "flap":
            for second in (0, 10):
                at(period, second)
                victim.process.kill()
                at(period, second + 5)
                victim.process.start()
        elif name == "leave":
            proxy.leave([cache for cache in caches if cache is not leaver], leaver)
    pace = json.loads(asking.line())
    asking.child.wait()
    print(f"{proxy.label}: {pace['late'] / pace['asked'] * 100:.3f} % of questions late by 20 ms or more, the latest by {pace['latest_ms']} ms", flush=True)
    origin.signal(signal.SIGTERM)
    origin.child.wait()
    asked = array.array("I", (folder / "origin/asked").read_bytes())
    records = array.array("I", (folder / "day/records").read_bytes())
    return summary(kind.label, periods, block, records, asked, origin_start - start) | {"holds": holds, "pace": pace}


def predicted(binary, folder, block):
    """What `plan` says of the same requests: the share that moves, hot keys left out as in `moved`."""
    often = {key for key, count in collections.Counter(block).items() if count > len(block) / CACHES / 8}
    with open(folder / "block.log", "w") as log:
        for key in block:
            if key not in often:
                log.write(f'{{"time":"2026-12-01T00:00:00.000Z","listener":"front","method":"GET","path":"/object/{key}","status":200}}\n')
    files = [folder / f"proxy/caches-{count}.toml" for count in (CACHES, CACHES + JOINING)]
    done = subprocess.run([binary, "plan", *files, "--log", folder / "block.log", "--json"], capture_output=True, text=True)
    return json.loads(done.stdout)["traffic"]["moved"]


def tell(out):
    """Table and picture of all days in a folder."""
    found = {name: json.loads((out / f"{name}.json").read_text()) for name in PROXIES if (out / f"{name}.json").exists()}
    days = list(found.values())
    text = table(days)
    for day in days:
        if day.get("predicted") is not None and day["moved"] is not None:
            text += f"\n\n{day['label']}: `plan --log` said {day['predicted'] * 100:.2f} % of requests move, {day['moved'] * 100:.2f} % did"
    print(text)
    (out / "lab.md").write_text(text + "\n")
    (out / "lab.svg").write_text(picture(days))
    print(f"written to {out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/ringway")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--proxies", default=",".join(PROXIES))
    parser.add_argument("--until", choices=[name for name, _ in DAY if name], default="leave", help="the last part of the day")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=[], help="nothing but these parts after the join")
    parser.add_argument("--trace", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--draw", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.draw:
        return tell(args.draw)
    binary = args.binary.resolve()
    out = (args.out or pathlib.Path(tempfile.mkdtemp(prefix="ringway-lab-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    tool = out / "lab"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", tool, pathlib.Path(__file__).parent / "lab.c"], check=True)
    periods = periods_of(args.until, args.parts)
    block = traced(args.trace) if args.trace else drawn()
    body = fit_to(block) if args.trace else BODY
    for name in args.proxies.split(","):
        kind = PROXIES[name]
        folder = pathlib.Path(tempfile.mkdtemp(prefix="ringway-lab-"))
        try:
            day = live(kind, folder, binary, tool, periods, block, body)
            if issubclass(kind, Ringway) and len(periods) > 4:
                day["predicted"] = predicted(binary, folder, block)
        finally:
            while STARTED:
                STARTED.pop().kill()
            shutil.rmtree(folder, ignore_errors=True)
        (out / f"{name}.json").write_text(json.dumps(day))
    tell(out)


if __name__ == "__main__":
    main()
