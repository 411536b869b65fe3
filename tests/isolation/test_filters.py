"""The list of what `make scopes` takes away fits the code, so that it can be run at any time."""

from __future__ import annotations

from tests.isolation.filters import BY_HAND, find_filters
from tests.isolation.scopes import ROOT


def test_every_filter_that_is_named_is_where_it_is_said_to_be():
    found = find_filters(ROOT / "src" / "metaclaw")  # not what is imported, of which one may be taken away
    assert len(found) > len(BY_HAND) + 100
