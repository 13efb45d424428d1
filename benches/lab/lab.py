#!/usr/bin/env python3
"""A fleet of real caches behind Ringway, nginx and HAProxy, one after the other, through the same day: caches join, one dies, comes
back cold, flaps, leaves, and one key gets hot. What the origin and the busiest cache had to bear, second by second.

Varnish caches with a few megabytes each, an nginx as origin, and a client that asks for objects by Zipf's law at a steady pace: the numbers
are counts, so they depend little on the machine, as long as the pace is held (the table says by how much it was).

    benches/lab/lab.py [--binary target/debug/ringway] [--seconds 1.0] [--out FOLDER] [--proxies ringway,nginx,haproxy]

Writes lab.svg, lab.md and lab.json to --out (a new folder in /tmp unless told otherwise). Takes about three and a half minutes for each proxy; --seconds
0.5 halves all times. Needs varnishd, nginx and haproxy; only loopback is used, and only what was started is ended.
"""

import argparse
import bisect
import collections
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHES, JOINING = 8, 2
OBJECTS, SKEW, BODY = 10_000, 0.9, 2048
MEMORY = "2m"
RATE, CLIENTS = 250, 32
HOT = "/hot"
# What happens when, in seconds, and for how long it is looked at.
DAY = [
    ("steady", 20, 15),
    ("join", 35, 30),
    ("die", 65, 20),
    ("return cold", 85, 20),
    ("hot key", 105, 20),
    ("flap", 125, 20),
    ("leave", 145, 20),
]
END = 165


# Below the range that the kernel takes for outgoing connections, and no port twice.
PORTS = iter(range(20_000 + os.getpid() * 37 % 10_000, 32_000))
STARTED = []


def free_port():
    for port in PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
            return port
        except OSError:
            pass
    raise SystemExit("lab: no port is free")


def program(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        sys.exit(f"lab: {name} is not installed")
    return found


class Process:
    """A program of ours, in the foreground, in a folder of its own."""

    def __init__(self, folder, command):
        self.folder, self.command, self.child = folder, [str(part) for part in command], None
        STARTED.append(self)
        self.start()

    def start(self):
        log = open(self.folder / "log", "ab")
        self.child = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                      start_new_session=True)

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """Ends it and what it has started, as a crash would."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()


def wait_until(what, is_so, seconds=60):
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"lab: waited {seconds} s for {what}")
        time.sleep(0.05)


def answers(port, path="/healthz"):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


class Origin:
    """nginx with the same body for every path, and a log of when it was asked."""

    def __init__(self, folder):
        self.port = free_port()
        self.log = folder / "asked.log"
        folder.mkdir(parents=True)
        (folder / "nginx.conf").write_text(f"""daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 1024; }}
http {{
    log_format moment $msec;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{self.port};
        access_log {self.log} moment;
        location = /healthz {{ access_log off; return 200 "fine"; }}
        location / {{ add_header Cache-Control "max-age=3600"; return 200 "{'x' * BODY}"; }}
    }}
}}
""")
        self.process = Process(folder, [program("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "error.log"])
        wait_until("the origin", lambda: answers(self.port))

    def moments(self):
        return [float(line) for line in self.log.read_text().split()]


class Cache:
    """A Varnish of little memory that fetches at `backend`."""

    def __init__(self, folder, name, backend):
        self.port = free_port()
        self.name = name
        folder.mkdir(parents=True)
        vcl = (ROOT / "config/varnish-fill.vcl").read_text().replace("10.0.0.100", "127.0.0.1").replace("8081", str(backend))
        vcl += f'\nsub vcl_deliver {{\n    set resp.http.X-Cache = "{name}";\n}}\n'
        (folder / "cache.vcl").write_text(vcl)
        self.process = Process(folder, [
            program("varnishd"), "-F", "-j", "none", "-n", folder / "state", "-a", f"127.0.0.1:{self.port}", "-f", folder / "cache.vcl",
            "-s", f"malloc,{MEMORY}", "-p", "thread_pools=1", "-p", "thread_pool_min=10", "-p", "thread_pool_max=200", "-p", "nuke_limit=500",
        ])

    def is_ready(self):
        return answers(self.port)

    def die(self):
        self.process.kill()

    def come_back(self):
        self.process.start()


class Ringway:
    """As config/cache-fleet-fill.toml has it."""

    label, color = "Ringway", ("#0b63c5", "#6db1ff")

    def __init__(self, folder, binary, origin, seconds):
        self.folder, self.binary, self.origin, self.seconds = folder, binary, origin, seconds
        self.port, self.backend, self.admin = free_port(), free_port(), free_port()
        folder.mkdir(parents=True)

    def configure(self, caches):
        endpoints = ", ".join(f'{{ id = "{cache.name}", address = "127.0.0.1:{cache.port}" }}' for cache in caches)
        ramp = round(10_000 * self.seconds)
        (self.folder / "ringway.toml").write_text(f"""[admin]
address = "127.0.0.1:{self.admin}"
[server]
reload = "signal"
[log]
access = "off"
[[listener]]
name = "front"
address = "127.0.0.1:{self.port}"
[[listener]]
name = "fill"
address = "127.0.0.1:{self.backend}"
[[route]]
listeners = ["front"]
upstream = "cache"
key = ["path_and_query"]
[[route]]
name = "fill"
listeners = ["fill"]
upstream = "origin"
fill_for = "cache"
[upstream.origin]
endpoints = [{{ id = "origin", address = "127.0.0.1:{self.origin.port}" }}]
[upstream.cache]
profile = "cache"
transition = {{ ramp = "{ramp}ms" }}
endpoints = [{endpoints}]
health_check = {{ interval = "1s" }}
""")

    def start(self, caches):
        self.configure(caches)
        self.process = Process(self.folder, [self.binary, "run", "-c", "ringway.toml"])

    def change(self, caches):
        self.configure(caches)
        self.process.signal(signal.SIGHUP)

    def leave(self, caches, gone):
        """As docs/TRANSITION.md says: drained first, then taken out."""
        subprocess.run([self.binary, "drain", f"cache/{gone.name}", "--admin", f"http://127.0.0.1:{self.admin}"], check=True,
                       stdout=subprocess.DEVNULL)
        threading.Timer(15 * self.seconds, self.change, [caches]).start()


class Nginx:
    """hash $request_uri consistent."""

    label, color = "nginx", ("#8a5a00", "#f0b95a")

    def __init__(self, folder, _, origin, seconds):
        self.folder, self.backend = folder, origin.port
        self.port = free_port()
        folder.mkdir(parents=True)

    def configure(self, caches):
        servers = " ".join(f"server 127.0.0.1:{cache.port} max_fails=1 fail_timeout=5s;" for cache in caches)
        (self.folder / "nginx.conf").write_text(f"""daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream caches {{ hash $request_uri consistent; {servers} keepalive 32; }}
    server {{
        listen 127.0.0.1:{self.port};
        location / {{ proxy_pass http://caches; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }}
    }}
}}
""")

    def start(self, caches):
        self.configure(caches)
        self.process = Process(self.folder, [program("nginx"), "-p", self.folder, "-c", "nginx.conf", "-e", "error.log"])

    def change(self, caches):
        self.configure(caches)
        self.process.signal(signal.SIGHUP)

    def leave(self, caches, _):
        self.change(caches)


class Haproxy:
    """balance uri, hash-type consistent."""

    label, color = "HAProxy", ("#b3261e", "#ff8b80")

    def __init__(self, folder, _, origin, seconds):
        self.folder, self.backend = folder, origin.port
        self.port = free_port()
        folder.mkdir(parents=True)

    def configure(self, caches):
        # A number belongs to a cache for good: HAProxy places servers by it.
        servers = "\n".join(
            f"    server {cache.name} 127.0.0.1:{cache.port} id {int(cache.name[1:])} check inter 1s fall 3 rise 2" for cache in caches)
        (self.folder / "haproxy.cfg").write_text(f"""global
    nbthread 2
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    retries 2
    option redispatch 1
frontend front
    bind 127.0.0.1:{self.port}
    default_backend caches
backend caches
    balance uri whole
    hash-type consistent
    option httpchk GET /healthz
{servers}
""")

    def start(self, caches):
        self.configure(caches)
        self.process = Process(self.folder, [program("haproxy"), "-W", "-db", "-f", "haproxy.cfg"])

    def change(self, caches):
        self.configure(caches)
        self.process.signal(signal.SIGUSR2)

    def leave(self, caches, _):
        self.change(caches)


PROXIES = {"ringway": Ringway, "nginx": Nginx, "haproxy": Haproxy}


class Load:
    """Clients that ask for objects by Zipf's law, together at a steady pace."""

    def __init__(self, port):
        self.port, self.is_hot, self.has_ended = port, False, False
        self.answers = []  # moment, cache, whether it went well
        weights = [1 / (rank ** SKEW) for rank in range(1, OBJECTS + 1)]
        total, self.sums = 0.0, []
        for weight in weights:
            total += weight
            self.sums.append(total)
        self.threads = [threading.Thread(target=self.ask, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        # The same questions for every proxy.
        dice, pause = random.Random(number), CLIENTS / RATE
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        due = time.monotonic() + pause * number / CLIENTS
        while not self.has_ended:
            rank = bisect.bisect_left(self.sums, dice.random() * self.sums[-1])
            path = HOT if self.is_hot and dice.random() < 0.1 else f"/object/{rank}"
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
            if due < time.monotonic() - 1:
                due = time.monotonic()  # A second behind is not made up for: that would be a burst.
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                self.answers.append((time.time(), answer.headers.get("X-Cache"), answer.status == 200))
            except (OSError, http.client.HTTPException):
                connection.close()
                self.answers.append((time.time(), None, False))

    def end(self):
        self.has_ended = True
        for thread in self.threads:
            thread.join()


def fill_up(port):
    """Asks for everything once, what is asked for most last: then every cache has what it would have after hours."""
    ranks = iter(range(OBJECTS, 0, -1))

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        # One at a time takes a number: iterators of the language itself are safe to share.
        for rank in ranks:
            connection.request("GET", f"/object/{rank}")
            connection.getresponse().read()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def live(kind, folder, args):
    """One proxy's day; what was seen of it, each second."""
    origin = Origin(folder / "origin")
    proxy = kind(folder / "proxy", args.binary, origin, args.seconds)
    caches = [Cache(folder / f"c{number}", f"c{number}", proxy.backend) for number in range(1, CACHES + JOINING + 1)]
    for cache in caches:
        wait_until(cache.name, cache.is_ready)
    first = caches[:CACHES]
    proxy.start(first)
    wait_until(proxy.label, lambda: answers(proxy.port))
    fill_up(proxy.port)
    load, start = Load(proxy.port), time.time()

    def at(second):
        time.sleep(max(0.0, start + second * args.seconds - time.time()))

    victim, leaver = caches[2], caches[4]
    begins = {name: second for name, second, _ in DAY}
    at(begins["join"])
    proxy.change(caches)
    at(begins["die"])
    victim.die()
    at(begins["return cold"])
    victim.come_back()
    at(begins["hot key"])
    load.is_hot = True
    at(begins["flap"])
    load.is_hot = False
    for _ in range(2):
        victim.die()
        time.sleep(4 * args.seconds)
        victim.come_back()
        wait_until("the cache that flaps", victim.is_ready)
        time.sleep(2 * args.seconds)
    at(begins["leave"])
    proxy.leave([cache for cache in caches if cache is not leaver], leaver)
    at(END)
    load.end()
    return seconds_of(load.answers, origin.moments(), start, args.seconds)


def seconds_of(asked, fetched, start, scale):
    count = int(END * scale)
    seconds = [{"asked": 0, "failed": 0, "origin": 0, "caches": collections.Counter()} for _ in range(count)]
    for moment, cache, is_well in asked:
        second = int(moment - start)
        if 0 <= second < count:
            seconds[second]["asked"] += 1
            seconds[second]["failed"] += not is_well
            if cache:
                seconds[second]["caches"][cache] += 1
    for moment in fetched:
        if 0 <= int(moment - start) < count:
            seconds[int(moment - start)]["origin"] += 1
    return seconds


def part(seconds, begin, length, scale):
    return seconds[int(begin * scale):int((begin + length) * scale)]


def share(seconds):
    """Of the requests, those that the origin was not asked for."""
    return 1 - sum(one["origin"] for one in seconds) / max(1, sum(one["asked"] for one in seconds))


def peak(seconds):
    """The origin's worst five seconds, as a share of what was asked in them: so a pace that was not held is no peak."""
    return max((1 - share(seconds[at:at + 5]) for at in range(max(1, len(seconds) - 4))), default=0)


def busiest(seconds):
    """The busiest cache over the mean."""
    total = collections.Counter()
    for one in seconds:
        total.update(one["caches"])
    return max(total.values()) * len(total) / sum(total.values()) if total else 0


def table(days, scale):
    lines = ["| what happens | proxy | origin not asked | origin's peak over steady | busiest cache over mean | failed |", "|---|---|---|---|---|---|"]
    for name, begin, length in DAY:
        for label, seconds in days.items():
            _, begin_steady, length_steady = DAY[0]
            steady = 1 - share(part(seconds, begin_steady, length_steady, scale))
            of = part(seconds, begin, length, scale)
            failed = sum(one["failed"] for one in of)
            lines.append(f"| {name} | {label} | {share(of) * 100:.1f} % | {peak(of) / max(steady, 0.001):.2f} | {busiest(of):.2f} | {failed} |")
    return "\n".join(lines)


def line(values, left, top, width, height, most):
    step = width / max(1, len(values) - 1)
    points = " ".join(f"{left + at * step:.1f},{top + height - height * min(value, most) / most:.1f}" for at, value in enumerate(values))
    return f'points="{points}"'


def picture(days, colors, scale):
    """Two charts, one over the other, for light and dark pages."""
    left, width, height, gap = 60, 900, 190, 60
    rows = [
        ("share of requests that the origin was asked for (five seconds)", " %", lambda day: [100 * (1 - share(day[max(0, at - 4):at + 1])) for at in range(len(day))]),
        ("busiest cache over the mean (five seconds)", "", lambda day: [busiest(day[max(0, at - 4):at + 1]) for at in range(len(day))]),
    ]
    style = "".join(f".p{number} {{ stroke: {light}; fill: {light}; }} " for number, (light, _) in enumerate(colors))
    dark = "".join(f".p{number} {{ stroke: {shade}; fill: {shade}; }} " for number, (_, shade) in enumerate(colors))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {40 + len(rows) * (height + gap)}" font-family="sans-serif" font-size="12">',
        "<title>A cache fleet through joins, deaths, returns, a hot key, flaps and a leave</title>",
        f"<style>text {{ fill: #1b2430; stroke: none; }} .grid {{ stroke: #b9c1cc; stroke-width: 0.6; }} polyline {{ fill: none !important; stroke-width: 1.6; }} {style}"
        f"@media (prefers-color-scheme: dark) {{ text {{ fill: #e4e9f0; }} .grid {{ stroke: #4a5666; }} {dark} }}</style>",
    ]
    for number, label in enumerate(days):
        out.append(f'<rect class="p{number}" x="{left + number * 120}" y="8" width="14" height="10"/><text x="{left + number * 120 + 20}" y="17">{label}</text>')
    skip = int(DAY[0][1] * scale)
    for row, (title, unit, values_of) in enumerate(rows):
        top = 50 + row * (height + gap)
        lines = [values_of(day)[skip:] for day in days.values()]
        most = max(max(values, default=1) for values in lines) * 1.05 or 1
        out.append(f'<text x="{left}" y="{top - 6}">{title}</text>')
        for tick in range(5):
            y = top + height - height * tick / 4
            out.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
                       f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{most * tick / 4:.{0 if most > 8 else 1}f}{unit}</text>')
        for name, begin, _ in DAY:
            x = left + width * (begin - DAY[0][1]) / (END - DAY[0][1])
            out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + height}" stroke-dasharray="3 3"/>'
                       f'<text x="{x + 3:.1f}" y="{top + height + 15}">{name}</text>')
        for number, values in enumerate(lines):
            out.append(f'<polyline class="p{number}" {line(values, left, top, width, height, most)}/>')
    return "\n".join([*out, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/ringway")
    parser.add_argument("--seconds", type=float, default=1.0, help="of the clock for one second of the day")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--proxies", default=",".join(PROXIES))
    args = parser.parse_args()
    args.binary = args.binary.resolve()
    out = args.out or pathlib.Path(tempfile.mkdtemp(prefix="ringway-lab-"))
    out.mkdir(parents=True, exist_ok=True)
    days, colors = {}, []
    for name in args.proxies.split(","):
        kind = PROXIES[name]
        folder = pathlib.Path(tempfile.mkdtemp(prefix="ringway-lab-"))
        try:
            days[kind.label] = live(kind, folder, args)
        finally:
            while STARTED:
                STARTED.pop().kill()
            shutil.rmtree(folder, ignore_errors=True)
        colors.append(kind.color)
        asked = sum(one["asked"] for one in days[kind.label])
        print(f"{kind.label}: {asked} requests, {asked / (END * args.seconds * RATE) * 100:.0f} % of the pace", flush=True)
    text = table(days, args.seconds)
    print(text)
    (out / "lab.md").write_text(text + "\n")
    (out / "lab.svg").write_text(picture(days, colors, args.seconds))
    (out / "lab.json").write_text(json.dumps(days))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
