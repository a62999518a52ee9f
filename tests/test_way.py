"""The way of ``bt.optimize`` to its first kernel call is short: files of ours that are entered, counted in a fresh process."""

import json
import subprocess
import sys

MOST_FILES = 20
CODE = """
import json, os, sys
import backtest as bt
from backtest import _backend

entered, calls = {}, []
root = os.path.dirname(bt.__file__)

class FirstCall(Exception):
    pass

class Kernel:
    def __init__(self, name, kernel):
        self.__dict__.update(name=name, kernel=kernel)

    def __getattr__(self, attribute):
        value = getattr(self.kernel, attribute)
        if not callable(value):
            return value
        def called(*args, **options):
            calls.append(f"{self.name}.{attribute}")
            raise FirstCall
        return called

def enter(frame, event, arg):
    path = frame.f_code.co_filename
    if event == "call" and not calls and path.startswith(root):
        entered.setdefault(os.path.relpath(path, root), frame.f_code.co_qualname)

kernels = _backend.chosen().kernels
for name in list(kernels):
    kernels[name] = Kernel(name, kernels[name])
bars, strategy = bt.Bars.sample(), bt.strategies.sma_cross
space = bt.Space({"fast": range(2, 20), "slow": range(20, 60)}, where="fast < slow")
sys.setprofile(enter)
try:
    bt.optimize(bars, strategy, space, costs=bt.Costs(fee_rate=0.001), progress=False)
except FirstCall:
    sys.setprofile(None)
print(json.dumps([entered, calls[0]]))
"""


def test_optimize_enters_few_files_before_its_first_kernel_call():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    entered, first_call = json.loads(done.stdout)
    files = {path: function for path, function in entered.items() if not path.endswith("__init__.py")}
    assert first_call.startswith("masks.")
    assert {"optimize.py", "signals.py", "cells.py"} <= set(files)
    assert len(files) <= MOST_FILES, f"{len(files)} files are entered before {first_call}: {files}"
