#!/usr/bin/env python3
"""bench.py [--only a,b,...] [--proxies nginx,haproxy,...] [--rounds 3] [--secs 4] [--rate N] [--out results.json] [--append]
Side-by-side benchmark of reverse proxies on loopback: see README.md. Each measured run takes an exclusive lock."""

import argparse, fcntl, json, os, re, signal, statistics, subprocess, sys, time, socket, threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from proxies import PROXIES, B, R, PEERS

PCPU, LCPU = os.environ.get("PCPU", "0"), os.environ.get("LCPU", "1")
CG = "/sys/fs/cgroup/cpu/perfbench/tasks"
import resource

_h = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (_h, _h))
HZ = os.sysconf("SC_CLK_TCK")
BK4 = [f"127.0.0.1:{19001+i}" for i in range(4)]


class Lock:
    def __enter__(s):
        t = time.time()
        s.f = open(B + "/lock", "a")
        fcntl.flock(s.f, fcntl.LOCK_EX)
        s.waited = time.time() - t
        return s

    def __exit__(s, *a):
        s.f.close()
        time.sleep(0.5)  # let a waiter in: flock is not fair


def pre():
    if A.fifo:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return  # stays in the root cgroup (a cgroup has no RT budget); children inherit it
    try:
        open(CG, "w").write(str(os.getpid()))  # own cpu cgroup with large shares: background builds cannot take CPU
    except Exception:
        pass


def spawn(cmd, cpu, env=None, **k):
    e = dict(os.environ)
    e.update(env or {})
    return subprocess.Popen(["taskset", "-c", cpu] + cmd, env=e, preexec_fn=pre, **k)


def tree(pid):
    kids = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                s = open(f"/proc/{d}/stat").read()
                kids.setdefault(int(s[s.rindex(")") + 2 :].split()[1]), []).append(int(d))
            except OSError:
                pass
    out = []
    st = [pid]
    while st:
        p = st.pop()
        out.append(p)
        st += kids.get(p, [])
    return out


def cpu(pids):
    """(total_ns, user_ticks, sys_ticks) over all threads of the pids. schedstat is ns-exact; utime/stime only split it."""
    u = s = 0
    ns = 0
    for p in pids:
        try:
            f = open(f"/proc/{p}/stat").read()
            f = f[f.rindex(")") + 2 :].split()
            u += int(f[11])
            s += int(f[12])
            for t in os.listdir(f"/proc/{p}/task"):
                ns += int(open(f"/proc/{p}/task/{t}/schedstat").read().split()[0])
        except OSError:
            pass
    return ns, u, s


def pss(pids):
    k = 0
    r = 0
    for p in pids:
        try:
            for l in open(f"/proc/{p}/smaps_rollup"):
                if l.startswith("Pss:"):
                    k += int(l.split()[1])
                if l.startswith("Rss:"):
                    r += int(l.split()[1])
        except OSError:
            pass
    return k


def steal():
    return int(open("/proc/stat").readline().split()[8])


def get(port, path="/s/probe", tmo=0.5):
    s = socket.create_connection(("127.0.0.1", port), tmo)
    s.settimeout(2)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.local\r\nConnection: close\r\n\r\n".encode())
    b = b""
    while True:
        x = s.recv(65536)
        if not x:
            break
        b += x
    s.close()
    return b


def wait_up(port, tmo=20):
    t = time.time()
    while time.time() - t < tmo:
        try:
            b = get(port)
            if b.startswith(b"HTTP/1.1 200"):
                return time.time() - t
        except OSError:
            pass
        time.sleep(0.002)
    raise RuntimeError(f"port {port} not up")


class Proxy:
    def __init__(s, name, bk):
        s.n = name
        s.d = PROXIES[name]
        s.bk = bk

    def __enter__(s):
        s.d["cfg"](s.bk)
        s.log = open(f"{R}/{s.n}.log", "ab")
        s.p = spawn(s.d["cmd"], s.d.get("cpus") or PCPU, s.d.get("env"), stdout=s.log, stderr=s.log)
        try:
            s.start_s = wait_up(s.d["ports"]["http"], 5)
        except BaseException:
            s.__exit__()
            raise
        return s

    def pids(s):
        return tree(s.p.pid)

    def __exit__(s, *a):
        ps = s.pids()
        for p in ps:
            try:
                os.kill(p, signal.SIGKILL)
            except OSError:
                pass
        s.p.wait()
        time.sleep(0.1)


def cal():
    return float(subprocess.run(["taskset", "-c", PCPU, B + "/cal"], capture_output=True, preexec_fn=pre).stdout)


def backend(args):
    p = spawn([B + "/backend"] + args, LCPU)
    time.sleep(0.1)
    return p


def lg(args, popen=False):
    cmd = ["taskset", "-c", LCPU, B + "/lg"] + [str(a) for a in args]
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, preexec_fn=pre)
    if popen:
        return p
    o = p.communicate()[0]
    return json.loads(o)


def measured(pr, args, warm_args=None):
    lg(args[:2] + args[2:] + ["-w", 0, "-d", 1.0])
    pids = pr.pids()
    c0 = cpu(pids)
    st = steal()
    t0 = time.time()
    r = lg(args + ["-w", 0, "-d", A.secs])
    t1 = time.time()
    c1 = cpu(pids)
    d = (c1[0] - c0[0]) / 1e3
    n = max(1, r["alldone"])
    us = c1[1] - c0[1]
    sy = c1[2] - c0[2]
    err = {k: r[k] for k in r if k.startswith("e_") and r[k]}
    o = dict(
        rps=r["rps"],
        mbps=r["mbps"],
        util=d / 1e6 / (t1 - t0) * 100,
        cpu_us=d / n,
        user_pct=100 * us / max(1, us + sy),
        p50=r["p50"],
        p99=r["p99"],
        p999=r["p999"],
        max=r["max"],
        pss_mb=pss(pids) / 1024,
        err=err,
        steal=steal() - st,
        lg_cpu=r["lg_cpu"],
        secmax=r["secmax_ms"],
        conns=r["conns_opened"],
    )
    if r["mbps"] > 0:
        o["cpu_s_per_gb"] = d / 1e6 / (r["mbps"] * A.secs / 1e3)
    return o


def h2(pr, port):
    uris = R + "/uris.txt"
    if not os.path.exists(uris):
        open(uris, "w").write("".join(f"http://127.0.0.1:{{P}}/s/item/{i*7919}/detail\n" for i in range(10000)))
    uf = f"{R}/uris_{port}.txt"
    open(uf, "w").write(open(uris).read().replace("{P}", str(port)))

    def go(secs):
        p = subprocess.Popen(
            ["taskset", "-c", LCPU, "h2load", "-D", str(secs), "-c", "8", "-m", "32", "-t", "1", "-i", uf],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=pre,
        )
        return p.communicate()[0].decode()

    go(1)
    pids = pr.pids()
    c0 = cpu(pids)
    st = steal()
    t0 = time.time()
    o = go(int(A.secs))
    t1 = time.time()
    c1 = cpu(pids)
    rps = float(re.search(r"([\d.]+) req/s", o).group(1))
    m = re.search(
        r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
        o,
    )
    sc = re.search(r"status codes: (\d+) 2xx", o)
    tr = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", o)
    done = int(m.group(3))
    d = (c1[0] - c0[0]) / 1e3
    us = c1[1] - c0[1]
    sy = c1[2] - c0[2]
    return dict(
        rps=rps,
        done=done,
        ok2xx=int(sc.group(1)),
        failed=int(m.group(5)),
        util=d / 1e6 / (t1 - t0) * 100,
        cpu_us=d / max(1, done),
        user_pct=100 * us / max(1, us + sy),
        mean=tr.group(3),
        maxs=tr.group(2),
        pss_mb=pss(pids) / 1024,
        steal=steal() - st,
    )


def w_reload(pr):
    port = pr.d["ports"]["http"]
    p = lg(["-p", port, "-c", 64, "-r", A.jrate, "-w", 0, "-d", 17], popen=True)
    t0 = time.time()
    peak = 0
    np = 0
    rl = 0
    while time.time() - t0 < 16.6:
        e = time.time() - t0
        if rl < 15 and e >= 1 + rl:
            rl += 1
            pr.d["cfg"]([f"127.0.0.1:{19001+i}" for i in range(4 + rl)])
            pr.d["reload"](pr.p.pid)
        x = pr.pids()
        np = max(np, len(x))
        peak = max(peak, pss(x) / 1024)
        time.sleep(0.05)
    r = json.loads(p.communicate()[0])
    return dict(
        reloads=rl,
        issued=r["issued"],
        done=r["alldone"],
        p50=r["p50"],
        p99=r["p99"],
        p999=r["p999"],
        max=r["max"],
        err={k: r[k] for k in r if k.startswith("e_") and r[k]},
        cleanclose=r["cleanclose"],
        conns=r["conns_opened"],
        secmax=r["secmax_ms"],
        peak_pss_mb=peak,
        max_procs=np,
    )


def by_worker(pids):
    """CPU time in ns of each of Ringway's worker threads."""
    found = {}
    for p in pids:
        for t in os.listdir(f"/proc/{p}/task"):
            name = open(f"/proc/{p}/task/{t}/comm").read().strip()
            if name.startswith("worker-"):
                found[name] = int(open(f"/proc/{p}/task/{t}/schedstat").read().split()[0])
    return found


def w_share(pr):  # each worker's share of the work, by CPU time, with few, some and many connections
    out = {}
    for protocol, port, counts in (
        ("http1", pr.d["ports"]["http"], (8, 64, 1000)),
        ("h2", pr.d["ports"]["h2c"], (8, 64)),
    ):
        for count in counts:
            before = by_worker(pr.pids())
            if protocol == "http1":
                lg(["-p", port, "-c", count, "-w", 0, "-d", A.secs])
            else:
                command = ["h2load", "-D", str(int(A.secs)), "-c", str(count), "-m", "8", "-t", "1"]
                subprocess.run(command + [f"http://127.0.0.1:{port}/s/a"], stdout=subprocess.DEVNULL, preexec_fn=pre)
            spent = [after - before[name] for name, after in sorted(by_worker(pr.pids()).items())]
            out[f"{protocol}_{count}"] = ":".join(f"{100 * one / sum(spent):.0f}" for one in spent)
    return out


def w_idle(pr):
    port = pr.d["ports"]["http"]
    lg(["-p", port, "-c", 64, "-w", 0, "-d", 0.5])
    time.sleep(0.3)
    m0 = pss(pr.pids())
    p = lg(["-p", port, "-c", 10000, "-I", "-w", 0, "-d", 7], popen=True)
    time.sleep(6)
    m1 = pss(pr.pids())
    r = json.loads(p.communicate()[0])
    return dict(
        base_mb=m0 / 1024,
        with10k_mb=m1 / 1024,
        kib_per_conn=(m1 - m0) / 10000,
        alive=r["alive"],
        err={k: r[k] for k in r if k.startswith("e_") and r[k]},
    )


def w_sys(pr):  # syscalls and context switches per request (tracepoints; deterministic, independent of host speed)
    out = {}
    for k, port, a in (("a", pr.d["ports"]["http"], []), ("f", pr.d["ports"]["tls"], ["-T"])):
        if not port:
            continue
        lg(["-p", port, "-c", 64, "-w", 0, "-d", 0.5] + a)
        f = f"{R}/perf.txt"
        p = subprocess.run(
            [
                "perf",
                "stat",
                "-x,",
                "-o",
                f,
                "-e",
                "raw_syscalls:sys_enter,context-switches",
                "-p",
                ",".join(map(str, pr.pids())),
                "--",
                "taskset",
                "-c",
                LCPU,
                B + "/lg",
                "-p",
                str(port),
                "-c",
                "64",
                "-w",
                "0",
                "-d",
                "2",
            ]
            + a,
            capture_output=True,
            preexec_fn=pre,
        )
        r = json.loads(p.stdout)
        c = [float(l.split(",")[0]) for l in open(f) if "," in l and not l.startswith("#")]
        out[k + "_syscalls_per_req"] = c[0] / r["alldone"]
        out[k + "_ctxsw_per_req"] = c[1] / r["alldone"]
    return out


def w_verify(name):  # the same path always lands on the same endpoint, and the 10k-path space is spread over all four
    bs = [backend(["-s", str(1001 + i), str(19301 + i)]) for i in range(4)]
    try:
        with Proxy(name, [f"127.0.0.1:{19301+i}" for i in range(4)]) as pr:
            s = socket.create_connection(("127.0.0.1", pr.d["ports"]["http"]))
            f = s.makefile("rb")
            got = []
            for k in range(4000):
                p = f"/s/item/{(k%2000)*7919}/detail"
                s.sendall(f"GET {p} HTTP/1.1\r\nHost: bench.local\r\n\r\n".encode())
                n = 0
                assert b" 200 " in f.readline()
                while True:
                    l = f.readline()
                    if l in (b"\r\n", b""):
                        break
                    if l.lower().startswith(b"content-length:"):
                        n = int(l.split(b":")[1])
                f.read(n)
                got.append(n - 1000)
            return dict(stable=got[:2000] == got[2000:], spread=[got[:2000].count(i) for i in (1, 2, 3, 4)])
    finally:
        for b in bs:
            b.kill()
            b.wait()


def w_ring(name):
    K = [f"127.0.{1+i//250}.{1+i%250}:19100" for i in range(1000)]
    K2 = [k.replace(":19100", ":19101") for k in K]
    bs = [backend(["-k", "1000", "19100"]), backend(["-s", "512", "-k", "1000", "19101"])]
    time.sleep(0.5)
    try:
        with Proxy(name, K) as pr:
            port = pr.d["ports"]["http"]
            time.sleep(0.5)
            m0 = pss(pr.pids())
            o = measured(pr, ["-p", port, "-c", 64])
            m1 = pss(pr.pids())
            out = dict(
                start_ms=pr.start_s * 1e3,
                pss_start_mb=m0 / 1024,
                pss_after_load_mb=m1 / 1024,
                rps=o["rps"],
                cpu_us=o["cpu_us"],
                p99=o["p99"],
                err=o["err"],
            )
            if pr.d.get("reload"):
                pr.d["cfg"](K2)
                c0 = cpu(pr.pids())[0]
                t = time.time()
                pr.d["reload"](pr.p.pid)
                ok = None
                while time.time() - t < 20:
                    try:
                        if b"ength: 512" in get(port):
                            ok = time.time() - t
                            break
                    except OSError:
                        pass
                    time.sleep(0.002)
                out["reload_ms"] = ok and ok * 1e3
            return out
    finally:
        for b in bs:
            b.kill()
            b.wait()


WL = dict(
    a=dict(args=[]),
    b=dict(args=["-P", "/m/"]),
    c=dict(args=["-P", "/l/"]),
    d=dict(args=["-b", 16384]),
    e=dict(args=["-C"]),
    f=dict(args=["-T"], port="tls"),
    g={},
    h={},
    i={},
    j={},
    k={},
    s={},
    v={},
    w={},
)


def run(name, wl):
    d = PROXIES[name]
    if wl == "k":
        return w_ring(name)
    if wl == "v":
        return w_verify(name)
    with Proxy(name, BK4) as pr:
        port = d["ports"][WL[wl].get("port", "http")]
        if wl == "g":
            return h2(pr, d["ports"]["h2c"])
        if wl == "h":
            return measured(pr, ["-p", port, "-c", 64, "-r", A.rate])
        if wl == "i":
            return w_idle(pr)
        if wl == "j":
            return w_reload(pr)
        if wl == "w":
            return w_share(pr)
        if wl == "s":
            return w_sys(pr)
        return measured(pr, ["-p", port, "-c", 16 if wl == "c" else 64] + WL[wl]["args"])


SIDM = [B, "/dev", "/proc"]


def mounts(on):
    if not os.path.isdir(PEERS):
        return
    # the sid proxies run in a chroot; the bind mounts exist only while bench.py runs (so that rm -rf of the chroot is safe)
    for m in SIDM:
        t = PEERS + m
        os.makedirs(t, exist_ok=True)
        ism = subprocess.run(["mountpoint", "-q", t]).returncode == 0
        if on and not ism:
            subprocess.run(["mount", "--bind", m, t], check=True)
        if not on and ism:
            subprocess.run(["umount", t], stderr=subprocess.DEVNULL)


def cgroup():
    try:
        os.makedirs(os.path.dirname(CG), exist_ok=True)
        open(os.path.dirname(CG) + "/cpu.shares", "w").write("200000")
    except OSError:
        pass


def main():
    global A
    import atexit

    signal.signal(signal.SIGTERM, lambda *a: sys.exit(1))
    ap = argparse.ArgumentParser()
    ap.add_argument("--only", default="a,b,c,d,e,f,g,h,i,j,k")
    ap.add_argument("--proxies", default="nginx,haproxy,envoy,pingora,caddy,l4_haproxy,l4_nginx,direct")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--secs", type=float, default=4)
    ap.add_argument("--rate", type=float, default=8000)
    ap.add_argument("--jrate", type=float, default=4000)
    ap.add_argument("--l4", default="a")
    ap.add_argument("--out", default=B + "/results.json")
    ap.add_argument(
        "--fifo",
        action="store_true",
        help="run proxy, backend and load generator as SCHED_FIFO 1 so that background work on the machine does not show up as latency",
    )
    ap.add_argument("--append", action="store_true")
    ap.add_argument("--report", action="store_true")
    A = ap.parse_args()
    res = []
    if (A.append or A.report) and os.path.exists(A.out):
        res = json.load(open(A.out))
    if A.report:
        return report(res)
    mounts(True)
    atexit.register(mounts, False)
    cgroup()
    be = None
    try:
        for wl in A.only.split(","):
            with Lock() as L:
                print(f"-- {wl}: waited {L.waited:.0f}s for the lock", flush=True)
                for rnd in range(A.rounds):
                    names = A.proxies.split(",")
                    names = names[rnd % len(names) :] + names[: rnd % len(names)]
                    for n in names:
                        d = PROXIES[n]
                        if d.get("l4") and wl not in A.l4 + "s":
                            continue
                        if (
                            wl == "f"
                            and not d["ports"]["tls"]
                            or wl == "g"
                            and not d["ports"]["h2c"]
                            or wl == "j"
                            and not d.get("reload")
                        ):
                            continue
                        be = backend([str(19001 + i) for i in range(20)])
                        try:
                            c0 = cal()
                            t = time.time()
                            r = run(n, wl)
                            c1 = cal()
                            r.update(
                                cal0=c0,
                                cal1=c1,
                                proxy=n,
                                wl=wl,
                                round=rnd,
                                rate=A.rate if wl == "h" else None,
                                fifo=A.fifo,
                                t=time.time(),
                                took=time.time() - t,
                            )
                            res.append(r)
                            print(
                                wl,
                                rnd,
                                n,
                                {
                                    k: (round(v, 2) if isinstance(v, float) else v)
                                    for k, v in r.items()
                                    if k not in ("proxy", "wl", "round", "t", "rate", "secmax", "lg_cpu")
                                },
                                flush=True,
                            )
                        except Exception as ex:
                            print("FAIL", wl, rnd, n, repr(ex), flush=True)
                        finally:
                            be.kill()
                            be.wait()
                        json.dump(res, open(A.out, "w"))
    finally:
        json.dump(res, open(A.out, "w"))
    report(res)


def report(res):
    key = {}
    for r in res:
        key.setdefault((r["wl"], (r.get("rate"), bool(r.get("fifo"))), r["proxy"]), []).append(r)
    cols = {
        "v": ["stable", "spread"],
        "s": ["a_syscalls_per_req", "a_ctxsw_per_req", "f_syscalls_per_req", "f_ctxsw_per_req"],
        "i": ["base_mb", "with10k_mb", "kib_per_conn", "alive"],
        "j": ["issued", "done", "p50", "p99", "p999", "max", "peak_pss_mb", "max_procs", "conns"],
        "k": ["start_ms", "pss_start_mb", "pss_after_load_mb", "rps", "cpu_us", "p99", "reload_ms"],
        "g": ["rps", "util", "cpu_us", "user_pct", "failed", "pss_mb"],
    }
    last = None
    for (wl, rate, p), rs in sorted(key.items(), key=lambda x: (x[0][0], x[0][1][0] or 0, x[0][1][1])):
        if wl == "v":
            print(
                f'(v) {p}: same path -> same endpoint: {rs[0]["stable"]}; 2000 paths over 4 endpoints: {rs[0]["spread"]}'
            )
            continue
        if wl == "w":
            print(f"(w) {p}: share of each worker, %:", *({k: r[k] for k in r if "_" in k} for r in rs))
            continue
        c = cols.get(
            wl,
            ["rps", "mbps", "util", "cpu_us", "user_pct", "p50", "p99", "p999", "max", "pss_mb"]
            + (["cpu_s_per_gb"] if wl in "bc" else []),
        )
        if (wl, rate) != last:
            print(
                f"\n### ({wl})"
                + (f" rate={rate[0]:.0f}/s" if rate[0] else "")
                + (" SCHED_FIFO" if rate[1] else "")
                + "\n\n| proxy | n | "
                + " | ".join(c)
                + " | cpu_us/rps spread | errors |\n|"
                + "---|" * (len(c) + 4)
            )
            last = (wl, rate)

        def med(k):
            v = [r[k] for r in rs if r.get(k) is not None]
            if not v:
                return "-"
            m = statistics.median(v)
            return f"{m:.0f}" if abs(m) >= 1000 else (f"{m:.1f}" if abs(m) >= 10 else f"{m:.2f}")

        k = next(x for x in ("cpu_us", "p99", "kib_per_conn", "a_syscalls_per_req") if x in rs[0])
        v = [r[k] for r in rs]
        er = {}
        for r in rs:
            for a, b in (r.get("err") or {}).items():
                er[a] = er.get(a, 0) + b
        print(f"| {p} | {len(rs)} | " + " | ".join(med(x) for x in c) + f" | {min(v):.1f}-{max(v):.1f} | {er or 0} |")
    ratios(res)


PEERS_OF_RATIOS = ("nginx", "haproxy", "envoy", "pingora", "caddy")


def ratios(res):
    """CPU time per request of each Ringway to the best peer's of the same workload; without a peer, to `ringway`'s."""
    of = {}
    for r in res:
        if r.get("cpu_us"):
            of.setdefault((r["wl"], r.get("rate")), {}).setdefault(r["proxy"], []).append(r["cpu_us"])
    print("\n| workload | proxy | CPU us per request | best peer | CPU us | ratio |\n|---|---|---|---|---|---|")
    for (wl, _), by in sorted(of.items(), key=str):
        median = {name: statistics.median(found) for name, found in by.items()}
        peers = [name for name in median if name.split("_")[0] in PEERS_OF_RATIOS]
        for name in (name for name in median if name.startswith("ringway")):
            rest = peers or [other for other in ("ringway",) if other in median]
            if rest and rest != [name]:
                best = min(rest, key=median.get)
                print(
                    f"| {wl} | {name} | {median[name]:.1f} | {best} | {median[best]:.1f} | {median[name] / median[best]:.2f} |"
                )


if __name__ == "__main__":
    main()
