"""Open a study that is in a store already, with the space and settings it has there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from backtest._checks import InputError, StoreError
from backtest._said import said
from backtest.space import Space
from backtest.study.store import Store
from backtest.study.study import Study


def join(url: str, name: str, objective: Any, *, version: str | None = None, seed: int | None = None) -> Study:
    """Open a study with the space and settings it has in a store.

    Parameters
    ----------
    url : str
        Of the store.
    name : str
        Of the study.
    objective : callable
        The same one; code is not in a store.
    version : str, optional
        Where several are there under this name; the newest by default.
    seed : int, optional
        Of this driver's sampler; the study's by default, with which drivers may suggest the same, and evaluate neighbours.

    Raises
    ------
    StoreError
        No such study in the store.
    FingerprintMismatch
        The objective is another one.
    """
    store = Store(url, read_only=True)
    try:
        found = [
            each["description"]
            for each in store.contexts()
            if each["name"] == name and "space" in each["description"] and version in (None, each["description"].get("version"))
        ]
    finally:
        store.close()
    if not found:
        which = "" if version is None else f" with version {version!r}"
        raise StoreError(f"study {name!r}{which} must be in the store, got none; its own program has to be started first")
    what = found[-1]
    missing = [key for key in ("version", "data", "directions", "sampler", "pruner", "seed") if key not in what]
    if missing:
        raise StoreError(f"study {name!r} must be in the store with all its settings, got none of {', '.join(missing)}")
    return Study(
        Space.from_dict(what["space"]),
        objective,
        name=name,
        version=what["version"],
        data=what["data"],
        direction=what["directions"],
        store=url,
        resume="require",
        sampler=what["sampler"] or "tpe",
        pruner=what["pruner"],
        seed=what["seed"] if seed is None else seed,
    )


def imported(path: str) -> Any:
    """The object that ``package.module:name`` names; the working folder is searched too, except under ``python -P``."""
    module, colon, name = path.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise InputError(f"objective must be 'package.module:name', got {path!r}")
    here = str(Path.cwd())
    if here not in sys.path and not sys.flags.safe_path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(f"objective must name something importable, got {path!r}: {said(error)}") from error
    return found
