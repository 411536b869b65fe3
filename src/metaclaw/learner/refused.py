"""Which turns of an update the trainer will not take.

Owns finding them; refuses to know why. Invariant: one turn that is longer than what the trainer reads by now, or was
drawn in a way that it cannot be told, does not spend the others that were to be trained on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metaclaw.learner.backends.backend import RefusedDataError
from metaclaw.learner.datums import DatumGroup
from metaclaw.learner.live_runs import LiveRuns


async def refused_turns(live: LiveRuns, agent: str, parent: int, groups: Sequence[DatumGroup]) -> list[str]:
    """The turns of those sequences that are refused one by one, from the weights of version ``parent``.

    Raises ``BackendError``. What is live afterwards has taken no step.
    """
    found = list[str]()
    pending = [(group, list(group.data)) for group in groups]
    while pending:
        group, data = pending.pop()
        if not await _is_refused(live, agent, parent, replace(group, data=tuple(data))):
            continue
        if len(data) == 1:
            found += [span.turn for span in data[0].spans]
            continue
        halves = data[: len(data) // 2], data[len(data) // 2 :]
        pending += [(group, half) for half in halves]
    return found


async def _is_refused(live: LiveRuns, agent: str, parent: int, group: DatumGroup) -> bool:
    run = await live.resumed(agent, parent)
    try:
        await run.forward([group])
    except RefusedDataError:
        await live.drop(agent)  # no run is used after an error
        return True
    return False
