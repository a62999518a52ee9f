"""What every evaluator promises (:class:`backtest.evaluator.Evaluator`), as tests to inherit."""

import pickle

import numpy as np
import pytest

import backtest as bt
from backtest.compute import threads
from backtest.evaluator import Evaluator


def same_bits(left, right):
    """Equal shapes and bits; of one bit pattern are all NaN."""
    assert left.shape == right.shape
    assert left.dtype == right.dtype == np.float64
    assert np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()


class EvaluatorContract:
    """Inherit, and say how the evaluator, a batch and the evaluator of a window's bars alone are made.

    Attributes
    ----------
    window : slice
        Some of the bars.
    is_pickled : bool
        Whether the evaluator can be pickled.
    has_threads : bool
        Whether ``make`` heeds ``n_threads``.
    has_windows : bool
        Whether it takes windows; otherwise it must refuse them.
    dates : slice, optional
        The same as ``window`` by dates, of an evaluator whose bars have some.
    """

    window = slice(60, 150)
    has_windows = True
    dates = None
    is_pickled = False
    has_threads = True

    def make(self, n_threads=1):
        """The evaluator."""
        raise NotImplementedError

    def batch(self):
        """float64 (n_candidates, n_params): at least 7 candidates that are not equal, and one of them twice."""
        raise NotImplementedError

    def without_later_bars(self):
        """The evaluator of ``window`` made from bars that end where the window does; None where there is no such thing."""
        return

    @pytest.fixture
    def evaluate(self, tmp_path):
        self.folder = tmp_path
        return self.make()

    # -- what comes back ---------------------------------------------------------------------------------------------------

    def test_it_is_an_evaluator(self, evaluate):
        assert isinstance(evaluate, Evaluator)
        assert all(isinstance(name, str) for name in evaluate.columns)
        assert len(set(evaluate.columns)) == len(evaluate.columns) > 0

    def test_scores_are_float64_with_a_row_for_each_candidate_and_a_column_for_each_name(self, evaluate):
        scores = evaluate(self.batch())
        assert isinstance(scores, np.ndarray)
        assert scores.dtype == np.float64
        n, width = len(self.batch()), len(evaluate.columns)
        assert scores.shape in ({(n, width)} if width > 1 else {(n,), (n, 1)})
        assert len(np.unique(np.nan_to_num(scores.reshape(n, -1)), axis=0)) > 2, "candidates must differ to prove anything"

    def test_an_empty_batch_has_empty_scores(self, evaluate):
        whole, batch = evaluate(self.batch()), self.batch()[:0]
        same_bits(evaluate(batch), whole[:0])
        if self.has_windows:
            same_bits(evaluate(batch, [self.window, None]), np.empty((2, *whole[:0].shape)))

    def test_scores_are_the_callers_own(self, evaluate):
        scores = evaluate(self.batch())
        before = scores.copy()
        scores[...] = 7.0
        same_bits(evaluate(self.batch()), before)

    # -- what does not matter ----------------------------------------------------------------------------------------------

    def test_again_gives_the_same(self, evaluate):
        same_bits(evaluate(self.batch()), evaluate(self.batch()))

    def test_another_evaluator_gives_the_same(self, evaluate, tmp_path):
        scores = evaluate(self.batch())
        self.folder = tmp_path / "other"
        self.folder.mkdir()
        same_bits(self.make()(self.batch()), scores)

    def test_the_order_of_candidates_does_not_matter(self, evaluate):
        batch = self.batch()
        order = np.random.default_rng(0).permutation(len(batch))
        scores = evaluate(batch[order])
        same_bits(scores, evaluate(batch)[order])

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_the_cut_of_a_batch_does_not_matter(self, evaluate, size):
        batch = self.batch()
        pieces = [evaluate(batch[first : first + size]) for first in range(0, len(batch), size)]
        same_bits(np.concatenate(pieces), evaluate(batch))

    def test_equal_candidates_have_equal_scores(self, evaluate):
        batch = self.batch()
        scores = evaluate(np.repeat(batch, 3, axis=0))
        same_bits(scores, np.repeat(evaluate(batch), 3, axis=0))

    def test_threads_do_not_matter(self, evaluate, monkeypatch, tmp_path):
        if not self.has_threads:
            return
        scores = evaluate(np.repeat(self.batch(), 20, axis=0))
        monkeypatch.setattr(threads, "WORTH_A_THREAD_US", 0.0)
        self.folder = tmp_path / "other"
        self.folder.mkdir()
        same_bits(self.make(n_threads=3)(np.repeat(self.batch(), 20, axis=0)), scores)

    def test_the_layout_of_the_batch_does_not_matter(self, evaluate):
        batch = self.batch()
        scores = evaluate(batch)
        wider = np.full((2 * len(batch), batch.shape[1] + 1), np.nan)
        wider[::2, 1:] = batch
        for other in (np.asfortranarray(batch), wider[::2, 1:], batch[::-1][::-1], batch.tolist()):
            same_bits(evaluate(other), scores)

    def test_the_batch_is_only_read(self, evaluate):
        batch = self.batch()
        before = batch.copy()
        scores = evaluate(batch)
        assert batch.tobytes() == before.tobytes()
        batch.flags.writeable = False
        same_bits(evaluate(batch), scores)

    # -- what is refused ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite_are_refused(self, evaluate, value):
        batch = self.batch()
        batch[3, -1] = value
        with pytest.raises(bt.InputError, match=r"batch must be finite, got .* \(row 3, column"):
            evaluate(batch)

    @pytest.mark.parametrize("shape", [(3, 0), (3, 9), (3,), (2, 3, 4)])
    def test_another_shape_is_refused(self, evaluate, shape):
        with pytest.raises(bt.InputError, match=r"batch must have (shape|2 dimensions)"):
            evaluate(np.ones(shape))

    @pytest.mark.parametrize("batch", ["abc", [["a", "b"]], None, [[1.0], [1.0, 2.0]]], ids=str)
    def test_what_is_no_table_of_numbers_is_refused(self, evaluate, batch):
        with pytest.raises(bt.InputError, match="batch must"):
            evaluate(batch)

    # -- windows -----------------------------------------------------------------------------------------------------------

    def test_windows_are_taken_or_refused(self, evaluate):
        if self.has_windows:
            assert evaluate(self.batch(), self.window).tobytes() != evaluate(self.batch()).tobytes()
        else:
            with pytest.raises(bt.InputError, match="window must be None"):
                evaluate(self.batch(), self.window)

    def test_no_window_is_all_bars(self, evaluate):
        scores = evaluate(self.batch())
        same_bits(evaluate(self.batch(), None), scores)
        if not self.has_windows:
            return
        same_bits(evaluate(self.batch(), slice(None)), scores)
        same_bits(evaluate(self.batch(), slice(0, None)), scores)

    def test_a_window_is_its_bars_alone(self, evaluate, tmp_path):
        if not self.has_windows:
            return
        scores = evaluate(self.batch(), self.window)
        self.folder = tmp_path / "other"
        self.folder.mkdir()
        alone = self.without_later_bars()
        if alone is None:
            return
        same_bits(alone(self.batch()), scores)

    def test_dates_are_as_good_as_bar_numbers(self, evaluate):
        if self.dates is None:
            if self.has_windows:
                with pytest.raises(bt.InputError, match="window must be bar numbers for bars without dates"):
                    evaluate(self.batch(), slice("2000", None))
            return
        same_bits(evaluate(self.batch(), self.dates), evaluate(self.batch(), self.window))
        same_bits(evaluate(self.batch(), [None, self.dates]), evaluate(self.batch(), [None, self.window]))
        with pytest.raises(bt.DataError, match="window must end within the bars"):
            evaluate(self.batch(), slice(None, "2100"))

    def test_several_windows_have_an_axis_of_their_own(self, evaluate):
        if not self.has_windows:
            return
        windows = [self.window, None, slice(50, None), self.window]
        each = [evaluate(self.batch(), window) for window in windows]
        for given in (windows, tuple(windows)):
            same_bits(evaluate(self.batch(), given), np.array(each))
        same_bits(evaluate(self.batch(), [self.window]), np.array(each[:1]))
        assert evaluate(self.batch(), []).shape == (0, *each[0].shape)

    def test_a_window_leaves_no_trace(self, evaluate):
        if not self.has_windows:
            return
        scores = evaluate(self.batch())
        evaluate(self.batch(), self.window)
        same_bits(evaluate(self.batch()), scores)

    @pytest.mark.parametrize(
        "window", [slice(0, 9, 2), slice(70, 60), slice(10**6, None), 5, "abc", (1.5,), slice(1.5, 9)], ids=str
    )
    def test_what_is_no_window_of_the_bars_is_refused(self, evaluate, window):
        with pytest.raises(bt.InputError, match="window"):
            evaluate(self.batch(), window)

    # -- pickles -----------------------------------------------------------------------------------------------------------

    def test_a_pickle_gives_the_same(self, evaluate):
        if not self.is_pickled:
            with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
                pickle.dumps(evaluate)
            return
        same_bits(pickle.loads(pickle.dumps(evaluate))(self.batch()), evaluate(self.batch()))
