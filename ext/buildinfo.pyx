"""Sources and compiler that the kernels were built with."""

from libc.string cimport memset

from _machine cimport Action, Fault, Order
from _records cimport Fill, Position, Trade, TradeSums
from _sums cimport Sums

cdef extern from *:
    """
    #ifndef BACKTEST_SOURCE_HASH
    #define BACKTEST_SOURCE_HASH "unknown"
    #endif
    #if defined(_MSC_VER)
    #define BACKTEST_STRINGIFY_(x) #x
    #define BACKTEST_STRINGIFY(x) BACKTEST_STRINGIFY_(x)
    #define BACKTEST_COMPILER "MSVC " BACKTEST_STRINGIFY(_MSC_VER)
    #elif defined(__clang__)
    #define BACKTEST_COMPILER __VERSION__
    #else
    #define BACKTEST_COMPILER "gcc " __VERSION__
    #endif
    #include "_cpu.h"
    #if defined(__x86_64__) || defined(_M_X64)
    #define BACKTEST_SIMD "x86-64"
    #elif defined(__aarch64__) || defined(_M_ARM64)
    #define BACKTEST_SIMD "aarch64"
    #else
    #define BACKTEST_SIMD "generic"
    #endif
    """
    const char *BACKTEST_SOURCE_HASH
    const char *BACKTEST_COMPILER
    const char *BACKTEST_SIMD
    int backtest_cpu_level() nogil

SOURCE_HASH = BACKTEST_SOURCE_HASH.decode("ascii")
COMPILER = BACKTEST_COMPILER.decode("ascii")
SIMD = BACKTEST_SIMD.decode("ascii")
# Highest of the levels 3 and 4 of x86-64 that this processor runs; 0 if neither.
CPU_LEVEL = backtest_cpu_level()


def record_fields():
    """Names of the fields of every record that kernels share, as compiled; tests compare them with the NumPy dtypes."""
    cdef Fill fill
    cdef Trade trade
    cdef Position position
    cdef Sums sums
    cdef TradeSums trade_sums
    cdef Action action
    cdef Order order
    cdef Fault fault
    memset(&fill, 0, sizeof(fill))
    memset(&trade, 0, sizeof(trade))
    memset(&position, 0, sizeof(position))
    memset(&sums, 0, sizeof(sums))
    memset(&trade_sums, 0, sizeof(trade_sums))
    memset(&action, 0, sizeof(action))
    memset(&order, 0, sizeof(order))
    memset(&fault, 0, sizeof(fault))
    records = {"FILL": <dict>fill, "TRADE": <dict>trade, "POSITION": <dict>position, "SUMS": <dict>sums,
               "TRADE_SUMS": <dict>trade_sums, "ACTION": <dict>action, "ORDER": <dict>order, "FAULT": <dict>fault}
    return {name: list(record) for name, record in records.items()}
