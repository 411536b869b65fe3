"""What is counted by our own counters looks on the page as the library's would."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from metaclaw.gateway.tallies import Tally, Times

BOUNDS = (0.0005, 0.01, 0.25, 5.0, 300.0)


def page(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)  # when counting began: nobody asks


def test_a_tally_and_times_make_the_page_that_the_library_makes() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    asked, usd = Tally("asked", "Asked.", ("route", "status")), Tally("usd", "Cost.", known=[()])
    took = Times("took_seconds", "Took.", BOUNDS)
    for one in (asked, usd, took):
        ours.register(one)
    their_asked = Counter("asked", "Asked.", ("route", "status"), registry=theirs)
    their_usd = Counter("usd", "Cost.", registry=theirs)
    their_took = Histogram("took_seconds", "Took.", buckets=BOUNDS, registry=theirs)
    assert page(ours) == page(theirs)  # before anything was counted
    for route, status in (("/a", "200"), ("/a", "200"), ("/b", "404")):
        asked.add(route, status)
        their_asked.labels(route, status).inc()
    for number in (0.25, 0.5):
        usd.add(number=number)
        their_usd.inc(number)
    for seconds in (0.0, 0.0005, 0.00051, 0.25, 4.0, 5.0, 299.0, 301.0):  # on a bound, beside it, beyond the last
        took.add(seconds)
        their_took.observe(seconds)
    assert page(ours) == page(theirs)
