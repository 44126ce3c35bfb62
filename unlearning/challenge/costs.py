"""What one network of each kind costs, measured side by side, for the challenge's 20 % rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
import torch

from ..core.devices import machine
from ..core.loop import Timed
from ..core.progress import Progress
from ..many import check_seeds

TIME = "time (% of retraining)"


def costs(makes: Mapping[str, Callable[[int], Timed]], seeds: Iterable[int]) -> dict:
    """Time one network of every kind per round, one after another, on one thread of a CPU.

    So all kinds meet the same state of the machine. A first round is not counted: it is slower.

    Args:
        makes: name -> ``make(seed)`` -> a network and the seconds that it took, see ``timed``.
        seeds: one per counted round.

    Returns:
        Name -> seconds (rounds,), and "device" and "torch", as ``load_or_run`` keeps them.
    """
    seeds, threads = check_seeds(seeds), torch.get_num_threads()
    rounds = []
    torch.set_num_threads(1)
    try:
        with Progress("timing", len(seeds) + 1, unit="rounds") as bar:
            for seed in [seeds[0], *seeds]:
                rounds.append({name: make(seed).seconds for name, make in makes.items()})
                bar.update()
    finally:
        torch.set_num_threads(threads)
    seconds = {name: np.array([one[name] for one in rounds[1:]]) for name in makes}
    return seconds | {name: np.full(len(seeds), text, "U64") for name, text in machine().items()}


def cost_table(seconds: Mapping[str, np.ndarray], *, retrained: str = "retrained") -> pd.DataFrame:
    """Time of every kind in per cent of the same round's retraining: median, lowest and highest.

    A second set of retrained networks shows the noise: its true value is 100.

    Args:
        seconds: as ``costs`` returns it.
        retrained: name of the yardstick.
    """
    shares = pd.DataFrame(
        {name: times for name, times in seconds.items() if times.dtype.kind == "f"}
    )
    shares = 100 * shares.div(shares[retrained], axis=0)
    columns = {TIME: shares.median(), "time, lowest": shares.min(), "time, highest": shares.max()}
    return pd.DataFrame(columns)
