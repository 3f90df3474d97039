"""Reads the board from a cluster: two lists a look, and a full explanation now and then."""

from __future__ import annotations

import time
from functools import partial
from typing import Self

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explain import explain
from qwenkit.cluster.kinds import CONFIG_MAP, KSVC
from qwenkit.cluster.preflight.cost import example_price
from qwenkit.errors import QwenkitError
from qwenkit.settings import MANAGED_BY, Settings
from qwenkit.workshop import description
from qwenkit.workshop.board import Board, read_board
from qwenkit.workshop.names import WORKSHOP_LABEL, WorkshopName

REFRESH_S = 4.0
# Two lists in 4 s, and an explanation asks up to 15 times: less than two requests a second.
_EXPLAIN_EVERY_S = 15.0


class BoardReader:
    """One workshop on a cluster. Each look costs the API server the same for any number of people.

    Every 15 s the Service that has waited longest is explained, of those that are not ready.
    """

    def __init__(self, cluster: Cluster, name: WorkshopName, price: float | None = None) -> None:
        self._cluster, self._name, self._price = cluster, name, price
        self._explained: dict[tuple[str, str], str] = {}
        self._next = 0.0

    @classmethod
    def connect(cls, settings: Settings, name: WorkshopName) -> Self:
        """Connect to the context of the settings, as ``Cluster.connect`` does."""
        return cls(Cluster.connect(settings), name, example_price(settings))

    def read(self) -> Board:
        """Look once.

        Raises:
            NotFound: there is no such workshop.
            QwenkitError: the cluster cannot be read.
        """
        labels = {WORKSHOP_LABEL: self._name.name}
        lists = (
            self._cluster.list(CONFIG_MAP, labels=labels, everywhere=True),
            self._cluster.list(KSVC, labels={MANAGED_BY: "qwenkit"}, everywhere=True),
        )
        made = partial(read_board, self._name.name, *lists, price=self._price)
        board = made(self._explained)
        if not board.rows:
            description.read(self._cluster, self._name)  # says that there is none
        return made(self._explained) if self._explain(board) else board

    def _explain(self, board: Board) -> bool:
        """Explain one Service, if it is time; those that never were come first."""
        late = {
            (f"{self._name.name}-{row.id}", row.service.seen): row.service.service
            for row in board.rows
            if row.service.state in ("warn", "error")
        }
        self._explained = {key: line for key, line in self._explained.items() if key in late}
        if not late or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _EXPLAIN_EVERY_S
        order = list(self._explained)
        key = min(late, key=lambda each: order.index(each) if each in order else -1)
        self._explained.pop(key, None)
        try:
            self._explained[key] = explain(self._cluster.at(key[0]), late[key]).cause
        except QwenkitError as error:
            self._explained[key] = error.what
        return True
