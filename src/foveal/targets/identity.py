"""Who it is, or somebody new."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from foveal.errors import TargetError, nearest
from foveal.manifest import Manifest, Truth
from foveal.split.identities import KNOWN, NEW, share_of_new
from foveal.split.record import NONE, Split
from foveal.table import MISSING


@dataclass(frozen=True, slots=True)
class Identity:
    """Who it is, by name; one name may mean "somebody unknown".

    Attributes:
        new: That name; None where everybody is known.
        new_share: The share of queries that is expected to be new; the share of unknown rows if
            None, or .3 where there are none.
    """

    new: str | None = None
    new_share: float | None = None

    @staticmethod
    def measure(manifest: Manifest) -> dict[str, Any]:
        """How many names the column has."""
        return {"names": len(np.unique(manifest.target[:, 0]))}

    def encode(self, manifest: Manifest) -> Shaped[np.ndarray, " case"]:
        """The name of every case.

        Raises:
            TargetError: A name is empty or has white space, or there are less than two.
        """
        names = manifest.only_target()
        column = manifest.target_columns[0]
        if self.new is not None and (why := _no_name(self.new)):
            raise TargetError(f"new=: {why}, and an answer lists names with spaces between them")
        wrong = [(k, _no_name(name)) for k, name in enumerate(names.tolist())]
        culprits = [f"{manifest.name(k)}: {why}" for k, why in wrong if why]
        if culprits:
            raise TargetError(
                f'{len(culprits)} values of column "{column}" are no names: empty, or with spaces, '
                "which stand between names in an answer; cure: correct them, "
                f"{self._instead()}or leave those rows out",
                culprits,
            )
        if nothing := sorted(MISSING & {*names.tolist()} - {self.new}):
            word, rows = nothing[0], np.flatnonzero(np.isin(names, nothing)).tolist()
            raise TargetError(
                f'{len(rows)} values of column "{column}" say "{word}", which would be one '
                f"individual of that name; cure: new={word}, if it means somebody unknown, or "
                "leave those rows out",
                [manifest.name(k) for k in rows],
            )
        counted = manifest.weight > 0
        known = set(names[counted].tolist()) - {self.new}
        if len(known) < 2:
            which = "" if counted.all() else " that count"
            raise TargetError(
                f'column "{column}" names {len(known)} individuals{which}; there is nothing to '
                "tell apart; cure: another --target"
            )
        return names

    def remarks(
        self, encoded: Shaped[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> list[str]:
        """What the answers depend on."""
        if self.new is None:
            return ["everybody is taken to be known; cure: new=VALUE if some may be new"]
        share = share_of_new(encoded, self.new, self.new_share)
        said = [
            f"{100 * share:.3g} % of queries are taken to be new (new_share={share:.3g}); where "
            f'"{self.new}" stands in the answers depends on it'
        ]
        if self.new not in encoded:
            said.append(
                f'no case is called "{self.new}"{nearest(self.new, np.unique(encoded).tolist())}'
            )
        return said

    def _instead(self) -> str:
        """What an empty cell may have meant."""
        return f'write "{self.new}" where nobody is known, ' if self.new is not None else ""

    def train(self, encoded: Shaped[np.ndarray, " case"]) -> Shaped[np.ndarray, " case"]:
        """The names, an empty one for somebody unknown."""
        return np.where(encoded == self.new, "", encoded) if self.new is not None else encoded

    def truth(
        self, manifest: Manifest, encoded: Shaped[np.ndarray, " case"], split: Split
    ) -> Truth:
        """Who a fold may know a query as, weighted to the share of new ones that is expected."""
        plain = split.truth(manifest, encoded)
        if self.new is None:
            return plain
        target = np.where(split.kind == NEW, np.array(self.new), encoded)
        weight = plain.weight.copy()
        share = share_of_new(encoded, self.new, self.new_share)
        every = split.fold != NONE  # last: a fold may have no new query, or none but new ones
        for asked in (*(split.fold == k for k in range(split.folds)), every):
            total = weight[asked].sum()
            for kind, part in ((NEW, share), (KNOWN, 1 - share)):
                rows = asked & (split.kind == kind)
                have = weight[rows].sum()
                weight[rows] *= part * total / have if have > 0 else 1.0
        return replace(plain, target=target, weight=weight)


def _no_name(text: str) -> str:
    """Why a text is no name; empty if it is one."""
    if not text:
        return "the cell is empty"
    return f'"{text}" has white space' if any(letter.isspace() for letter in text) else ""
