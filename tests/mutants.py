"""Copies of pure twins with one change in their text, to show that a comparison notices it."""

import importlib
import sys
import types
from pathlib import Path

#: Modules that a twin is made of, imported ones first.
PARTS = {
    "direct": ["_direct_state", "_direct_heaps", "direct"],
    "levels": ["_levels", "_levels_events", "_levels_exact", "levels"],
}


def pure_source(part):
    return Path(importlib.import_module(f"backtest._pure.{part}").__file__).read_text()


def mutated(name, text, replacement):
    """The pure twin ``name`` with ``text``, which must be in it, replaced wherever it is."""
    sources = {part: pure_source(part) for part in PARTS.get(name, [name])}
    assert any(text in source for source in sources.values()), f"{text!r} must be in the twin {name}"
    places = {part: f"backtest._pure.{part}" for part in sources}
    kept = {place: sys.modules[place] for place in places.values()}
    try:
        for part, source in sources.items():
            module = types.ModuleType(places[part])
            sys.modules[places[part]] = module  # the next module imports from it
            exec(compile(source.replace(text, replacement), f"mutant of {part}", "exec"), module.__dict__)
    finally:
        sys.modules.update(kept)
    return module
