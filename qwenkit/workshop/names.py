"""What a workshop is called, whom it has, and what its objects are called."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.cluster.gpu_slot import WORKSHOP_LABEL as WORKSHOP_LABEL
from qwenkit.cluster.ownership import workshop_run
from qwenkit.cluster.preflight.free_gpus import QUOTA as QUOTA
from qwenkit.exercises.sharing import PROGRESS as PROGRESS
from qwenkit.settings import run_labels

PARTICIPANT_LABEL = "qwenkit.dev/participant"
# On a participant's namespace: the name that the instructor gave, as it was written.
DISPLAY_NAME = "qwenkit.dev/display-name"
ACCOUNT = "participant"  # the ServiceAccount of each participant's namespace
API_KEY_SECRET = "qwen-api-key"
DEFAULT = "workshop"  # its name where none is given
SLOTS = "slots"  # the ConfigMap of the workshop's own namespace: who holds and has used what
KEEPER = "keeper"  # the Lease of who keeps the slots, and the account of the one in the cluster


@dataclass(frozen=True)
class Participant:
    """One participant of a workshop; ``id`` is such as ``p07``, ``display_name`` anything."""

    workshop: str
    id: str
    display_name: str = ""

    @property
    def namespace(self) -> str:
        """Its namespace, which is also the name of its volume, claim and kube context."""
        return f"{self.workshop}-{self.id}"


@dataclass(frozen=True)
class WorkshopName:
    """A workshop by its name, a DNS label of at most 30 letters."""

    name: str

    @property
    def namespace(self) -> str:
        """The namespace of what only the instructor and the cluster may read."""
        return f"qwenkit-{self.name}"

    @property
    def run(self) -> str:
        """The run whose label all of its objects carry, beside the workshop's own."""
        return workshop_run(self.name)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of all of its objects."""
        return run_labels(self.run) | {WORKSHOP_LABEL: self.name}

    def participant(self, number: int, display_name: str = "") -> Participant:
        """Return a participant by number, from 1."""
        return Participant(self.name, f"p{number:02d}", display_name)
