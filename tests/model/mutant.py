"""What a seeded fault is."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.model.search import Found
from tests.model.world import Configuration

Patches = Iterator[AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault, and where it has to show.

    Attributes:
        configuration: a small one in which it does harm.
        caught_by: the invariants one of which it breaks first.
        patches: what is put in place of what.
    """

    name: str
    configuration: Configuration
    caught_by: tuple[str, ...]
    patches: Callable[[], Patches]

    def is_caught(self, found: Found) -> bool:
        """Whether the search found it, and for the right reason."""
        return bool(found.violations) and found.violations[0].which in self.caught_by

    def seeded(self) -> ExitStack:
        """Within this, the fault is there."""
        stack = ExitStack()
        for each in self.patches():
            stack.enter_context(each)
        return stack


@dataclass(frozen=True, slots=True)
class Seeds:
    """Faults of one kind."""

    sown: list[Mutant] = field(default_factory=list)

    def fault(
        self, name: str, configuration: Configuration, *caught_by: str
    ) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
        """Sows what a function patches."""

        def keep(patches: Callable[[], Patches]) -> Callable[[], Patches]:
            self.sown.append(
                Mutant(name=name, configuration=configuration, caught_by=caught_by, patches=patches)
            )
            return patches

        return keep
