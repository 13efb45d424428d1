"""What the day of the laboratory is: its numbers, and what happens when. The rest of it reads them here."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHES, JOINING = 20, 5
# Of the objects that are asked for in a period, all caches together hold about a half: see `holds` in the output.
OBJECTS, SKEW, BODY, MEMORY = 120_000, 0.9, 1024, "1m"
# What a cache has room for, in bytes of objects, and what an object takes beside its body.
ROOM, OVERHEAD = 1_020_000, 280
RATE, CONNECTIONS, PERIOD = 3000, 800, 30
# What the origin takes for an answer: so there are requests in flight, as in life.
ORIGIN_MS = 250
# In this time as many requests come as all caches hold objects.
RAMP, FILL = 6, 12
HOT, NOBODY = OBJECTS + 1, 0xFFFF_FFFF
WINDOW = 1
# Periods of the day: what happens in each, and the undisturbed one that it is held against.
DAY = [("", 0), ("steady", 0), ("join", 1), ("", 0), ("", 0), ("hot key", 4), ("die", 4), ("", 0), ("flap", 4), ("", 0), ("leave", 4)]
HALF = PERIOD // 2
# Parts of a period, in seconds of it.
PARTS = {"steady": (0, PERIOD), "join": (0, PERIOD), "hot key": (0, PERIOD), "die": (0, HALF), "return cold": (HALF, PERIOD),
         "flap": (0, PERIOD), "leave": (0, PERIOD)}
