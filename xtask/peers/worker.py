"""A peer that measures when it is told to.

It says `{"ready": ...}` on standard output once it is loaded and warm; then, for each number of runs that it reads from
standard input, it makes so many and prints their times in milliseconds with the peak memory of the process.
"""

import json
import resource
import sys
import time


def say(document):
    print(json.dumps(document), flush=True)


def serve(name, run, warm_up=1, **description):
    """Answers until standard input ends. `run` makes one run and returns when its result is there."""
    for _ in range(warm_up):
        run()
    say({"ready": name, **description})
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say({"ms": times, "peak_rss_mib": round(peak, 3)})
