"""Random register programs, with bars, candidates and settings to run them on: cases for the twins of the bar machine."""

from types import SimpleNamespace

import numpy as np

from backtest.machine import program as tables
from backtest.machine.program import ACTION, FIELDS, FLAGS, OPS, Program

OP = {name: code for code, name in enumerate(OPS)}
NUMBER_OPS = ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "NEG", "ABS", "SQRT", "COPY", "SELECT", "NUMBER")
COMPARISONS = ("LT", "LE", "EQ", "NE")
WORD_OPS = ("AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "WSELECT")
#: Constants of every program: factors for prices, sizes, counts.
CONSTANTS = (0.5, 0.97, 0.99, 1.01, 1.03, 1.0, 2.0, 3.0, 0.02, 0.05, 0.25, 5.0, 100.0)
LINE_COLUMNS, MASK_COLUMNS, N_PARAMS, N_STATES, N_BOOLEANS = 4, 2, 3, 3, 2


class Writer:
    """A program that is being written: every register once, unless it is written again on purpose."""

    def __init__(self, rnd, few_fields):
        self.rnd, self.code = rnd, []
        self.inputs = [(0, 0)] + [(int(rnd.integers(LINE_COLUMNS)), int(rnd.choice([0, 1, 2, 5, 70]))) for _ in range(3)]
        self.masks = [(column, int(rnd.choice([0, 1, 67]))) for column in range(MASK_COLUMNS)]
        at = len(CONSTANTS)
        self.params = list(range(at, at + N_PARAMS))
        self.first_field = at + N_PARAMS
        wanted = rnd.choice(len(FIELDS), int(rnd.integers(1, 5)) if few_fields else len(FIELDS), replace=False)
        self.fields = [self.first_field + int(field) for field in wanted]
        self.fields_used = sum(1 << int(field) for field in wanted)
        self.first_state = self.first_field + len(FIELDS)
        self.first_input = self.first_state + N_STATES
        self.n_numbers = self.first_input + len(self.inputs)
        self.lines = list(range(self.first_input, self.n_numbers))
        self.states = list(range(self.first_state, self.first_input))
        self.flags = list(range(2 + len(FLAGS), 2 + len(FLAGS) + N_BOOLEANS))
        self.words = [*range(2, 2 + len(FLAGS)), *self.flags]
        self.n_words = 2 + len(FLAGS) + N_BOOLEANS + len(self.masks)
        self.words += list(range(self.n_words - len(self.masks), self.n_words))
        self.numbers = [*self.params, *self.fields, *self.states, *self.lines, *range(len(CONSTANTS))]

    def pick(self, places):
        return int(self.rnd.choice(places))

    def number(self, op, a, b=0, c=0):
        self.code.append((OP[op], self.n_numbers, a, b, c))
        self.n_numbers += 1
        return self.n_numbers - 1

    def word(self, op, a, b=0, c=0):
        self.code.append((OP[op], self.n_words, a, b, c))
        self.n_words += 1
        return self.n_words - 1

    def constant(self, *values):
        return CONSTANTS.index(float(self.rnd.choice(values)))

    def any_number(self):
        op = str(self.rnd.choice(NUMBER_OPS))
        if op in ("SELECT", "NUMBER"):
            made = self.number(op, self.pick(self.words), self.pick(self.numbers), self.pick(self.numbers))
        else:
            made = self.number(op, self.pick(self.numbers), self.pick(self.numbers))
        self.numbers.append(made)

    def any_word(self):
        if self.rnd.random() < 0.6:
            close = self.first_input
            one, other = (
                (close, self.pick(self.lines)) if self.rnd.random() < 0.5 else (self.pick(self.numbers), self.pick(self.numbers))
            )
            made = self.word(str(self.rnd.choice(COMPARISONS)), one, other)
        else:
            made = self.word(str(self.rnd.choice(WORD_OPS)), *(self.pick(self.words) for _ in range(3)))
        self.words.append(made)

    def price(self, *factors):
        """A number near the close."""
        return self.number("MUL", self.first_input, self.constant(*factors))


def random_action(writer, slot, where, careless):
    """One call on the account, with arguments that mostly keep the rules."""
    rnd = writer.rnd
    action = dict.fromkeys(ACTION.names, 0) | dict.fromkeys(tables.OPERANDS, -1)
    kind = int(rnd.choice([0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5], p=[0.16, 0.16, 0.1, 0.12, 0.12, 0.1, 0.05, 0.05, 0.02, 0.06, 0.06]))
    action |= {"kind": kind, "where": where, "line": int(rnd.integers(1, 99)), "slot": slot if kind <= tables.CLOSE else -1}
    if kind == tables.CLOSE:
        action["reason"] = int(rnd.choice([1, 6]))
    if kind == tables.MOVE_STOP:
        action["stop_loss"] = writer.price(0.97, 0.99, 1.01, 1.03)
    if kind == tables.MOVE_TARGET:
        action["take_profit"] = writer.price(0.97, 0.99, 1.01, 1.03)
        action["share"] = writer.constant(0.5, 0.25) if rnd.random() < 0.5 else -1
    if kind >= tables.CLOSE:
        return action
    is_buy = kind == tables.BUY
    below, above = (0.97, 0.99), (1.01, 1.03)
    action["size_kind"] = int(rnd.integers(1, 5))
    sizes = {1: (0.5, 2.0, 5.0), 2: (0.25, 0.5, 1.0), 3: (100.0,), 4: (0.25, 0.5, 1.0)}[action["size_kind"]]
    action["size"] = writer.constant(*sizes)
    action["cut"], action["once"] = int(rnd.random() < 0.2), int(rnd.random() < 0.2)
    action["reduce_only"] = int(rnd.random() < 0.15)
    shape = int(rnd.choice(4, p=[0.5, 0.2, 0.2, 0.1]))
    if shape in (1, 3):
        action["limit"] = writer.price(*below, *above)
    if shape in (2, 3):
        action["stop"] = writer.price(*below, *above)
    if rnd.random() < 0.4:
        action["valid"] = writer.constant(1.0, 2.0, 3.0)
    reference = action["limit"] if action["limit"] >= 0 else action["stop"] if action["stop"] >= 0 else writer.first_input
    if rnd.random() < 0.5:
        if rnd.random() < 0.5:
            action["stop_loss_kind"] = 2 if is_buy else 3
            action["stop_loss"] = writer.constant(0.02, 0.05)
        else:
            action["stop_loss_kind"] = 1
            action["stop_loss"] = writer.number("MUL", reference, writer.constant(*(below if is_buy else above)))
    if rnd.random() < 0.5:
        if rnd.random() < 0.5:
            action["take_profit_kind"] = 3 if is_buy else 2
            action["take_profit"] = writer.constant(0.02, 0.05)
        else:
            action["take_profit_kind"] = 1
            action["take_profit"] = writer.number("MUL", reference, writer.constant(*(above if is_buy else below)))
    if rnd.random() < 0.4:
        action["trail_kind"] = int(rnd.integers(1, 3))
        action["trail"] = writer.constant(0.02, 0.05) if action["trail_kind"] == 1 else writer.constant(1.0, 2.0, 3.0)
    if rnd.random() < careless:
        name = str(rnd.choice(["size", "limit", "stop", "valid", "stop_loss", "take_profit", "trail"]))
        if action[name] >= 0:
            action[name] = writer.pick(writer.numbers)
    return action


def random_program(rnd, n_actions=6, careless=0.03):
    """A program of random arithmetic whose actions are mostly sensible orders."""
    writer = Writer(rnd, few_fields=rnd.random() < 0.5)
    for _ in range(2):  # of constants and parameters alone
        writer.numbers.append(
            writer.number(str(rnd.choice(["ADD", "MUL", "DIV"])), writer.pick(writer.params), writer.constant(0.5, 2.0))
        )
    n_setup = len(writer.code)
    for _ in range(int(rnd.integers(4, 16))):
        writer.any_number()
        writer.any_word()
    actions, slot = [], 0
    for _ in range(n_actions):
        where = writer.pick(writer.words)
        if rnd.random() < 0.7:  # rarer
            where = writer.word("AND", where, writer.pick(writer.words))
        jump = None
        if rnd.random() < 0.5:  # what only this action needs is skipped where nobody needs it
            jump = len(writer.code)
            writer.code.append(None)
        actions.append(random_action(writer, slot, where, careless))
        slot += actions[-1]["kind"] <= tables.CLOSE
        if jump is not None:
            writer.code[jump] = (OP["JUMP"], 0, where, len(writer.code), 0)
    if rnd.random() < 0.5:  # a register that is written again
        writer.code.append((OP["ADD"], writer.n_numbers - 1, writer.pick(writer.lines), writer.pick(writer.lines), 0))
    stores = [(state, writer.pick([*writer.numbers, *writer.states])) for state in range(N_STATES) if rnd.random() < 0.7]
    flag_stores = [(flag, writer.pick(writer.words)) for flag in range(N_BOOLEANS) if rnd.random() < 0.7]
    records = np.zeros(len(actions), ACTION)
    for row, action in zip(records, actions, strict=True):
        for name in ACTION.names:
            row[name] = action[name]
    return Program(
        code=np.array(writer.code, np.int32).reshape(-1, 5),
        n_setup=n_setup,
        constants=np.array(CONSTANTS),
        n_params=N_PARAMS,
        n_states=N_STATES,
        state_start=np.array([0.0, 1.5, -2.0]),
        n_flags=N_BOOLEANS,
        flag_start=np.array([0, 1], np.int32),
        inputs=np.array(writer.inputs, np.int32).reshape(-1, 2),
        masks=np.array(writer.masks, np.int32).reshape(-1, 2),
        n_numbers=writer.n_numbers,
        n_words=writer.n_words,
        actions=records,
        stores=np.array(stores, np.int32).reshape(-1, 2),
        flag_stores=np.array(flag_stores, np.int32).reshape(-1, 2),
        n_slots=slot,
        fields_used=writer.fields_used,
        no_entry_after_level=int(rnd.random() < 0.3),
        off_is_nan=int(rnd.random() < 0.3),
    )


def random_bars(rnd, n_bars):
    """Prices on a coarse grid, so that many are equal, or on none."""
    step = rnd.choice([0.0, 0.5])
    close = 100.0 * np.exp(np.cumsum(rnd.normal(0.0, 0.02, n_bars)))
    open_ = close * np.exp(rnd.normal(0.0, 0.01, n_bars))
    high = np.maximum(open_, close) * np.exp(np.abs(rnd.normal(0.0, 0.01, n_bars)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rnd.normal(0.0, 0.01, n_bars)))
    if step:
        open_, close = (np.maximum(np.round(price / step), 1.0) * step for price in (open_, close))
        high, low = np.ceil(high / step) * step, np.maximum(np.floor(low / step), 1.0) * step
    return SimpleNamespace(open=open_, high=high, low=low, close=close)


def random_candidates(rnd, bars, n):
    """Parameters, lines and masks of ``n`` candidates; line column 0 is the close."""
    n_bars = len(bars.close)
    smooth = [np.convolve(bars.close, np.full(k, 1.0 / k))[:n_bars] for k in (2, 5)]
    lines = np.ascontiguousarray([bars.close, bars.open, bars.high, bars.low, *smooth])
    line_rows = rnd.integers(0, len(lines), (n, LINE_COLUMNS))
    line_rows[:, 0] = 0
    line_rows[:, 1] = line_rows[0, 1]
    n_words = -(-n_bars // 64)
    masks = rnd.integers(0, 2**64, (5, n_words), np.uint64) & rnd.integers(0, 2**64, (5, n_words), np.uint64)
    mask_rows = rnd.integers(-1, 4, (n, MASK_COLUMNS))
    masks[-1] = 0
    return SimpleNamespace(
        values=rnd.uniform(0.01, 2.0, (n, N_PARAMS)),
        lines=lines,
        line_rows=line_rows.astype(np.int64),
        masks=masks,
        mask_rows=mask_rows.astype(np.int64),
    )


def random_settings(rnd, n_bars):
    """Execution and costs; margin, lots, ticks and funding now and then."""

    def now_and_then(p, value, otherwise):
        return value if rnd.random() < p else otherwise

    leverage = now_and_then(0.3, 3.0, 1.0)
    return SimpleNamespace(
        fee_rate=now_and_then(0.7, 0.001, 0.0),
        slippage=now_and_then(0.5, float(rnd.choice([0.0005, 0.04])), 0.0),
        fixed=now_and_then(0.2, 1.0, 0.0),
        per_unit=now_and_then(0.2, 0.01, 0.0),
        minimum=now_and_then(0.2, 2.0, 0.0),
        maximum=now_and_then(0.2, 5.0, np.inf),
        first=int(rnd.integers(70, 75)),
        last=n_bars - int(rnd.integers(0, 3)),
        start_cash=float(rnd.choice([1000.0, 150.0])),
        rf_per_bar=now_and_then(0.3, 0.0001, 0.0),
        borrow_per_bar=now_and_then(0.3, 0.0002, 0.0),
        fills_at_close=bool(rnd.random() < 0.3),
        intrabar=int(rnd.integers(0, 3)),
        close_at_end=bool(rnd.random() < 0.5),
        lot=now_and_then(0.25, float(rnd.choice([1.0, 0.1])), 0.0),
        touch_tolerance=2.0**-50,
        leverage=leverage,
        maintenance_margin=now_and_then(0.6, 0.1, 0.0) if leverage > 1.0 else 0.0,
        multiplier=now_and_then(0.2, 0.5, 1.0),
        tick=now_and_then(0.2, 0.25, 0.0),
        liquidation_fee=now_and_then(0.3, 0.01, 0.0),
        funding=rnd.normal(0.0, float(rnd.choice([0.001, 0.02])), n_bars) if rnd.random() < 0.2 else np.empty(0),
    )


def random_case(seed, n_bars=150, n_candidates=10):
    """Arguments of the kernel: bars, program, candidates, settings."""
    rnd = np.random.default_rng(seed)
    bars = random_bars(rnd, n_bars)
    candidates = random_candidates(rnd, bars, n_candidates)
    return bars, random_program(rnd, int(rnd.integers(3, 10))), candidates, random_settings(rnd, n_bars)
