"""Open a study that is already in a store, with its stored space and settings."""

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
    """Open a study with its stored space and settings.

    Parameters
    ----------
    url : str
        Of the store.
    name : str
        Of the study.
    objective : callable
        The study's; a store holds no code.
    version : str, optional
        Of several with this name; the newest by default.
    seed : int, optional
        Of this driver's sampler; the study's by default, with which drivers may suggest the same candidates, and then evaluate
        neighbours of them.

    Raises
    ------
    StoreError
        No such study in the store.
    FingerprintMismatch
        The objective is another one.
    """
    store = Store(url, read_only=True)
    try:
        descriptions = [
            each["description"]
            for each in store.contexts()
            if each["name"] == name and "space" in each["description"] and version in (None, each["description"].get("version"))
        ]
    finally:
        store.close()
    if not descriptions:
        which = "" if version is None else f" with version {version!r}"
        raise StoreError(f"study {name!r}{which} must be in the store, got none; its own program has to be started first")
    description = descriptions[-1]
    missing = [key for key in ("version", "data", "directions", "sampler", "pruner", "seed") if key not in description]
    if missing:
        raise StoreError(f"study {name!r} must be in the store with all its settings, got none of {', '.join(missing)}")
    return Study(
        Space.from_dict(description["space"]),
        objective,
        name=name,
        version=description["version"],
        data=description["data"],
        direction=description["directions"],
        store=url,
        resume="require",
        sampler=description["sampler"] or "tpe",
        pruner=description["pruner"],
        seed=description["seed"] if seed is None else seed,
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
        value = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise InputError(f"objective must name something importable, got {path!r}: {said(error)}") from error
    return value
