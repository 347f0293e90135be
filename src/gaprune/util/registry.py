"""Registries: every module of a folder is imported once, and registers its class under a name."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class _Named(Protocol):
    name: ClassVar[str]


Kind = TypeVar("Kind", bound=_Named)
Registered = TypeVar("Registered", bound=type[Any])


class Registry(Generic[Kind]):
    """The classes that the modules of a package register.

    Args:
        package: Name of the package.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._is_imported = False
        self.registered: dict[str, type[Kind]] = {}

    def register(self, kind: Registered) -> Registered:
        """Register a class under its ``name``; use as a decorator.

        Raises:
            ValueError: If another class has the name.
        """
        if self.registered.get(kind.name, kind) is not kind:
            raise ValueError(f"the name {kind.name!r} belongs to {self.registered[kind.name].__qualname__}")
        self.registered[kind.name] = kind
        return kind

    def available(self) -> list[type[Kind]]:
        """Return every registered class, those of all modules of the package included."""
        if not self._is_imported:
            self._is_imported = True
            for module in pkgutil.iter_modules(import_module(self._package).__path__):
                import_module(f"{self._package}.{module.name}")
        return list(self.registered.values())
