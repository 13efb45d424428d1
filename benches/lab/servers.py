"""Real caches, and the proxies before them, each as a user would run it."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from day import FILL, HALF, MEMORY, RAMP, ROOT

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

    def __init__(self, folder, command, stdout=None):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.command, self.stdout = folder, [str(part) for part in command], stdout
        STARTED.append(self)
        self.start()

    def start(self):
        log = open(self.folder / "log", "ab")
        self.child = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.stdout or log, stderr=log,
                                      start_new_session=True)

    def signal(self, number):
        self.child.send_signal(number)

    def line(self):
        return self.child.stdout.readline().decode()

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


class Cache:
    """A Varnish of little memory that fetches at `backend`."""

    def __init__(self, folder, name, backend):
        self.port, self.name, self.folder = free_port(), name, folder
        folder.mkdir(parents=True)
        vcl = (ROOT / "config/varnish-fill.vcl").read_text().replace("10.0.0.100", "127.0.0.1").replace("8081", str(backend))
        vcl += f'\nsub vcl_deliver {{\n    set resp.http.X-Cache = "{name} " + obj.hits;\n}}\n'
        (folder / "cache.vcl").write_text(vcl)
        self.process = Process(folder, [
            program("varnishd"), "-F", "-j", "none", "-n", folder / "state", "-a", f"127.0.0.1:{self.port}", "-f", folder / "cache.vcl",
            "-s", f"malloc,{MEMORY}", "-p", "thread_pools=1", "-p", "thread_pool_min=20", "-p", "thread_pool_max=500",
            "-p", "nuke_limit=500", "-p", "vsl_space=1M",
        ])

    def is_ready(self):
        return answers(self.port)

    def holds(self):
        out = subprocess.run([program("varnishstat"), "-n", self.folder / "state", "-1", "-f", "MAIN.n_object"], capture_output=True, text=True)
        return int(out.stdout.split()[1])


class Ringway:
    """As config/cache-fleet-fill.toml has it."""

    label, color = "Ringway", ("#0b63c5", "#6db1ff")
    fills, ramp, fill, load = True, RAMP, FILL, ""

    def __init__(self, folder, binary, origin):
        self.folder, self.binary, self.origin = folder, binary, origin
        self.port, self.fill_port, self.admin = free_port(), free_port(), free_port()
        self.backend = self.fill_port if self.fills else origin
        folder.mkdir(parents=True)

    def configure(self, caches):
        endpoints = ", ".join(f'{{ id = "{cache.name}", address = "127.0.0.1:{cache.port}" }}' for cache in caches)
        text = f"""[admin]
address = "127.0.0.1:{self.admin}"
[server]
reload = "signal"
[log]
access = "off"
[[listener]]
name = "front"
address = "127.0.0.1:{self.port}"
[[route]]
listeners = ["front"]
upstream = "cache"
key = ["path_and_query"]
[upstream.cache]
profile = "cache"
transition = {{ ramp = "{round(self.ramp * 1000)}ms", fill_window = "{round(self.fill * 1000)}ms" }}
endpoints = [{endpoints}]
health_check = {{ interval = "1s" }}
{self.load}
"""
        if self.fills:
            text += f"""[[listener]]
name = "fill"
address = "127.0.0.1:{self.fill_port}"
[[route]]
name = "fill"
listeners = ["fill"]
upstream = "origin"
fill_for = "cache"
[upstream.origin]
endpoints = [{{ id = "origin", address = "127.0.0.1:{self.origin}" }}]
"""
        (self.folder / f"caches-{len(caches)}.toml").write_text(text)
        (self.folder / "ringway.toml").write_text(text)

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
        threading.Timer(HALF, self.change, [caches]).start()


class RingwayRamp(Ringway):
    """Its caches fetch at the origin themselves."""

    label, color, fills = "Ringway, no fill", ("#5c8f2f", "#a6d96a"), False


class RingwayRing(Ringway):
    """The ring alone: no ramp, no fill, no load bound, no hot keys."""

    label, color, fills, ramp = "Ringway, ring alone", ("#6a51a3", "#bcb0e6"), False, 0
    load = 'load = { bound = "off", hot_keys = { share = "0%" } }'


class Nginx:
    """hash $request_uri consistent."""

    label, color = "nginx", ("#8a5a00", "#f0b95a")

    def __init__(self, folder, _, origin):
        self.folder, self.backend = folder, origin
        self.port = free_port()
        folder.mkdir(parents=True)

    def configure(self, caches):
        servers = " ".join(f"server 127.0.0.1:{cache.port};" for cache in caches)
        (self.folder / "nginx.conf").write_text(f"""daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream caches {{ hash $request_uri consistent; {servers} keepalive 512; keepalive_requests 1000000; }}
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

    def __init__(self, folder, _, origin):
        self.folder, self.backend = folder, origin
        self.port = free_port()
        folder.mkdir(parents=True)

    def configure(self, caches):
        # A number belongs to a cache for good: HAProxy places servers by it.
        servers = "\n".join(
            f"    server {cache.name} 127.0.0.1:{cache.port} id {int(cache.name[1:])} check inter 1s fall 3 rise 2" for cache in caches)
        (self.folder / "haproxy.cfg").write_text(f"""global
    nbthread 2
    maxconn 4096
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


PROXIES = {"ringway": Ringway, "ringway-ramp": RingwayRamp, "ringway-ring": RingwayRing, "nginx": Nginx, "haproxy": Haproxy}
