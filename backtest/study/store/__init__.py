"""Results of candidates on disk; this is all that the rest of the library may use of the room."""

from backtest.search.duplicates import Status as Status
from backtest.study.store.faults import no_object as no_object
from backtest.study.store.faults import objects as objects
from backtest.study.store.layout import APPLICATION_ID as APPLICATION_ID
from backtest.study.store.layout import SCHEMA_VERSION as SCHEMA_VERSION
from backtest.study.store.owners import has_died as has_died
from backtest.study.store.owners import new_owner as new_owner
from backtest.study.store.results import Reservation as Reservation
from backtest.study.store.results import Store as Store
from backtest.study.store.rows import Row as Row
