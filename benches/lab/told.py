"""What a day comes to: a table and a picture."""

import collections

from day import CACHES, NOBODY, PARTS, PERIOD, RATE, WINDOW
from servers import PROXIES


def is_of_hot(position):
    """Every tenth question, when there is a hot key."""
    return position % 10 == 7


def summary(label, periods, block, records, asked, offset):
    """What is kept of a day: tenths of a second of the origin, and for each second of it what clients saw."""
    tenths = [0] * (len(periods) * PERIOD * 10)
    for ms in asked[::2]:
        tenth = int((offset + ms / 1000) * 10)
        if 0 <= tenth < len(tenths):
            tenths[tenth] += 1
    seconds = [{"failed": 0, "again": 0, "hits": 0, "hits_cold": 0, "cold": 0, "caches": collections.Counter()}
               for _ in range(len(periods) * PERIOD)]
    took = []
    owners = collections.defaultdict(dict)
    for position in range(len(records) // 2):
        micros, rest = records[2 * position], records[2 * position + 1]
        cache, is_hit, is_again = rest & 0xFFFF, rest >> 16 & 0xFF, rest >> 24
        second = seconds[position // RATE]
        second["again"] += is_again
        second["failed"] += micros == NOBODY
        if not is_of_hot(position % len(block)):
            second["cold"] += 1
            second["hits_cold"] += is_hit
        second["hits"] += is_hit
        second["caches"][cache] += 1
        took.append(micros)
        period = position // len(block)
        if period in (1, 4):
            owners[period][position % len(block)] = cache
    p99 = [sorted(took[at:at + len(block)])[len(block) * 99 // 100] / 1000 for at in range(0, len(took), len(block))]
    return {"label": label, "periods": periods, "tenths": tenths, "seconds": seconds, "p99_ms": p99, "moved": moved(owners, block)}


def moved(owners, block):
    """The share of requests that another cache answers after the join, of keys that are not hot: those are anybody's of several."""
    if len(owners) < 2:
        return None
    often = {key for key, count in collections.Counter(block).items() if count > len(block) / CACHES / 8}
    pairs = [(owners[1][at], owners[4][at]) for at, key in enumerate(block) if key not in often]
    return sum(one != other for one, other in pairs) / len(pairs)


def ratios(day, period, base, begin, end, window=WINDOW):
    """The origin's load over that of the same moments in an undisturbed period, each tenth of a second, by windows."""
    def load(of, tenth):
        first = of * PERIOD * 10 + tenth
        return sum(day["tenths"][first:first + window * 10])

    return [load(period, tenth) / max(1, load(base, tenth)) for tenth in range(begin * 10, (end - window) * 10 + 1)]


def part(day, period, begin, end):
    return day["seconds"][period * PERIOD + begin:period * PERIOD + end]


def busiest(seconds):
    """The busiest cache over the mean."""
    total = collections.Counter()
    for one in seconds:
        total.update({cache: count for cache, count in one["caches"].items() if str(cache) != "0"})
    return max(total.values()) * len(total) / sum(total.values()) if total else 0


def share(seconds, hits, of=None):
    return sum(one[hits] for one in seconds) / (sum(one[of] for one in seconds) if of else RATE * len(seconds))


def misses(seconds):
    return [RATE - one["hits"] for one in seconds]


def row(day, name):
    """One line of the table; `None` when the day has no such part."""
    period = next((at for at, (what, _) in enumerate(day["periods"]) if what == ("die" if name == "return cold" else name)), None)
    if period is None:
        return None
    base, (begin, end) = day["periods"][period][1], PARTS[name]
    of, usual = part(day, period, begin, end), part(day, base, begin, end)
    origin = ratios(day, period, base, begin, end)
    whole = ratios(day, period, base, begin, end, window=end - begin)[0]
    lost = share(usual, "hits_cold", "cold") - share(of, "hits_cold", "cold")
    missed = max(now / max(1, before) for now, before in zip(misses(of), misses(usual)))
    return {"hits": share(of, "hits"), "missed": missed, "lost": lost, "origin": whole, "peak": max(origin), "busiest": busiest(of),
            "failed": sum(one["failed"] for one in of), "again": sum(one["again"] for one in of)}


def table(days):
    lines = ["| what happens | proxy | hits | points lost | misses, peak | origin, in all | origin, peak | busiest cache over mean | failed |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name in PARTS:
        for day in days:
            it = row(day, name)
            if it:
                lines.append(f"| {name} | {day['label']} | {it['hits'] * 100:.1f} % | {it['lost'] * 100:+.2f} | {it['missed']:.3f} | {it['origin']:.3f} | {it['peak']:.3f} "
                             f"| {it['busiest']:.2f} | {it['failed']} |")
    return "\n".join(lines)


def picture(days):
    """Two charts, one over the other, for light and dark pages."""
    left, width, height, gap = 60, 900, 190, 60
    colors = [next(kind.color for kind in PROXIES.values() if kind.label == day["label"]) for day in days]
    longest = max((day["periods"] for day in days), key=len)
    shown = [(name, at, base) for at, (name, base) in enumerate(longest) if name]

    def origin(day):
        return [[] if at >= len(day["periods"]) else ratios(day, at, base, 0, PERIOD) for _, at, base in shown]

    def busy(day):
        seconds = [part(day, at, 0, PERIOD) for _, at, _ in shown if at < len(day["periods"])]
        return [[busiest(of[second:second + 3]) for second in range(PERIOD - 2)] for of in seconds]

    rows = [("the origin's load over that of the same second without the event", origin, 0.8), ("busiest cache over the mean, three seconds", busy, 0.0)]
    style = "".join(f".p{number} {{ stroke: {light}; fill: {light}; }} " for number, (light, _) in enumerate(colors))
    dark = "".join(f".p{number} {{ stroke: {shade}; fill: {shade}; }} " for number, (_, shade) in enumerate(colors))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {40 + len(rows) * (height + gap)}" font-family="sans-serif" font-size="12">',
        "<title>A cache fleet through joins, a hot key, a death, a return, flaps and a leave</title>",
        f"<style>text {{ fill: #1b2430; stroke: none; }} .grid {{ stroke: #b9c1cc; stroke-width: 0.6; }} polyline {{ fill: none !important; stroke-width: 1.6; }} {style}"
        f"@media (prefers-color-scheme: dark) {{ text {{ fill: #e4e9f0; }} .grid {{ stroke: #4a5666; }} {dark} }}</style>",
    ]
    for number, day in enumerate(days):
        out.append(f'<rect class="p{number}" x="{left + number * 170}" y="8" width="14" height="10"/><text x="{left + number * 170 + 20}" y="17">{day["label"]}</text>')
    room = width / len(shown)
    for row_number, (title, values_of, least) in enumerate(rows):
        top = 50 + row_number * (height + gap)
        curves = [values_of(day) for day in days]
        most = least + (max(value for curve in curves for values in curve for value in values) - least) * 1.05
        out.append(f'<text x="{left}" y="{top - 6}">{title}</text>')
        for tick in range(5):
            y = top + height - height * tick / 4
            out.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
                       f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{least + (most - least) * tick / 4:.2f}</text>')
        for number, (name, _, _) in enumerate(shown):
            x = left + room * number
            told = "die, return cold" if name == "die" else name
            out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + height}" stroke-dasharray="3 3"/>'
                       f'<text x="{x + 3:.1f}" y="{top + height + 15}">{told}</text>')
        for number, curve in enumerate(curves):
            for place, values in enumerate(curve):
                points = " ".join(f"{left + room * (place + at / max(1, len(values) - 1) * 0.96):.1f},{top + height * (1 - max(0.0, value - least) / (most - least)):.1f}"
                                  for at, value in enumerate(values))
                out.append(f'<polyline class="p{number}" points="{points}"/>')
    return "\n".join([*out, "</svg>\n"])
