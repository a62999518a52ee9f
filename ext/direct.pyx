"""DIRECT (DIviding RECTangles), one iteration at a time: choose rectangles, sample them, take in the scores.

A. *A rectangle* is a row: its centre in the unit cube, how often each side was cut into three (``exponent``), and the
   score of its centre.  Only longest sides are cut, so the exponents of a row differ by at most one and their sum, the
   *depth*, determines its shape: the longest sides are those with exponent ``depth // n_params``.
B. *A size class* holds the rectangles of one size.  Its number is their depth, or for the locally biased variant, which
   measures a rectangle by its longest side, ``depth // n_params``.  Class 0 is the largest.
C. *Nothing evaluated inside an iteration influences what else is evaluated in it*, so an iteration is one batch.
D. *A class is a pairing heap* over (score, rank): ``head`` per size class, ``child`` and ``sibling`` per rectangle.  The
   algorithm only takes rectangles from the front of a class, and inserts after those of equal score, which a rising
   rank expresses.  One exception, at ``insert_pair``, takes a falling rank.
E. *Rectangles chosen together leave their classes one by one*, each right before its children are inserted.  A chosen
   rectangle is taken from the heap at once, but counts as the front of its class (``waiting``, a list linked by
   ``sibling``) until it is divided.
F. Floating point order matters everywhere: a child's centre is the parent's plus, then minus, a third of the side,
   never recomputed from integers; sizes come from a running product of 3.0.

References
----------
D. R. Jones, C. D. Perttunen, B. E. Stuckman, Lipschitzian optimization without the Lipschitz constant, J. Optim.
Theory Appl. 79 (1993) 157-181.  J. M. Gablonsky, C. T. Kelley, A locally-biased form of the DIRECT algorithm,
J. Global Optim. 21 (2001) 27-37.  M. L. Fredman et al., The pairing heap, Algorithmica 1 (1986) 111-129.
"""

from _direct cimport DIRECT_NAN, direct_fits, direct_sample, direct_select, direct_start, direct_update
from _direct_state cimport Direct, direct_fill_tables, direct_init

NAN = DIRECT_NAN


cdef class State:
    """One run: its options, its arrays (bound by ``bind``), its progress.

    Parameters
    ----------
    n_params : int
        Dimensions of the search space.
    eps : float
        Relative improvement a rectangle must promise to be divided.
    budget : int
        The run stops after the iteration that has evaluated more points than this.
    max_iter : int
        scipy's ``maxiter``: the first batch and ``max_iter - 2`` iterations.
    locally_biased : bool
        Sizes are longest sides (True) or half diagonals (False).
    strict : bool
        Drop a rectangle that lies above the lower hull, as Jones does; False keeps it, as scipy does.
    f_min, f_min_rtol : float
        Known minimum (-inf: unknown) and the relative distance to it that ends the run.
    vol_tol, len_tol : float
        Volume and size of the best rectangle that end the run; negative: never.
    """

    cdef Direct direct
    cdef tuple arrays  # keeps alive what the pointers point into

    def __init__(self, Py_ssize_t n_params, double eps, Py_ssize_t budget, Py_ssize_t max_iter, bint locally_biased,
                 bint strict, double f_min, double f_min_rtol, double vol_tol, double len_tol):
        direct_init(&self.direct, n_params, NULL, NULL, eps, budget, max_iter, locally_biased, strict, f_min, f_min_rtol,
                    vol_tol, len_tol)

    def bind(self, const double[::1] ratio, const double[::1] width, double[:, ::1] centre, int[:, ::1] exponent,
             double[::1] value, Py_ssize_t[::1] rank, Py_ssize_t[::1] child, Py_ssize_t[::1] sibling,
             Py_ssize_t[::1] chosen, Py_ssize_t[::1] head, Py_ssize_t[::1] waiting, double[::1] third, double[::1] size,
             double[::1] least, Py_ssize_t[::1] order, Py_ssize_t[::1] side):
        """Work on these arrays from now on; copy the old contents before binding larger ones.

        Parameters
        ----------
        ratio, width : float64 (n_params,)
            Lower bound / width, and width, of the search space.
        centre, exponent : float64 and int32 (capacity, n_params)
            Rectangles: centre in the unit cube, cuts of each side.
        value, rank, child, sibling, chosen : float64 (value) and intp (capacity,)
            Rectangles: score, order among equal scores, heap links; the rectangles chosen.
        head, waiting : intp (n_classes,)
            First rectangle of each size class, and first chosen one still waiting; -1 for none.
        third, size : float64 (n_classes,)
            3 ** -k, and the size of each class; filled here.
        least, order, side : float64 (least) and intp (n_params,)
            Scratch for one division.
        """
        cdef Direct *d = &self.direct
        self.arrays = (ratio, width, centre, exponent, value, rank, child, sibling, chosen, head, waiting, third, size,
                       least, order, side)
        d.ratio, d.width, d.centre, d.exponent = &ratio[0], &width[0], &centre[0, 0], &exponent[0, 0]
        d.value, d.rank, d.child, d.sibling, d.chosen = &value[0], &rank[0], &child[0], &sibling[0], &chosen[0]
        d.head, d.waiting, d.third, d.size = &head[0], &waiting[0], &third[0], &size[0]
        d.least, d.order, d.side = &least[0], &order[0], &side[0]
        d.capacity, d.n_classes = value.shape[0], head.shape[0]
        direct_fill_tables(d)

    @property
    def n_params(self):
        return self.direct.n_params

    @property
    def n_points(self):
        return self.direct.n_points

    @property
    def n_chosen(self):
        return self.direct.n_chosen

    @property
    def n_new(self):
        return self.direct.n_new

    @property
    def best(self):
        return self.direct.best

    @property
    def fun(self):
        return self.direct.fun

    @property
    def deepest(self):
        return self.direct.deepest

    @property
    def iteration(self):
        return self.direct.iteration


def start(State state not None) -> int:
    """Begin the run.

    Returns
    -------
    int
        Points in the first batch, 2 * n_params + 1: the centre of the space, then two for each parameter.
    """
    return direct_start(&state.direct)


def select(State state not None) -> int:
    """Choose the rectangles to divide: those that may hold the minimum for some Lipschitz constant.

    Heads of the size classes, largest first; the original variant adds members whose score equals their head's.
    At least one is always chosen: the head of the largest class, or one that scores no worse.

    Returns
    -------
    int
        Points in the next batch.
    """
    cdef Py_ssize_t n_new
    with nogil:
        n_new = direct_select(&state.direct)
    return n_new


def fits(State state not None) -> bool:
    """Whether the arrays have room for the rectangles and the depths that this iteration can make."""
    return direct_fits(&state.direct)


def sample(State state not None, double[:, ::1] batch not None) -> None:
    """Make the new rectangles and write their centres, in search-space units, into ``batch``.

    Parameters
    ----------
    batch : float64 (n_new, n_params)
        Filled: chosen rectangles in order, their longest sides ascending, plus before minus.
    """
    with nogil:
        direct_sample(&state.direct, &batch[0, 0])


def update(State state not None, const double[::1] scores not None) -> int:
    """Take in the scores of the batch: divide the chosen rectangles, insert their children.

    Parameters
    ----------
    scores : float64 (n_new,)
        Scores of the batch, in its order.

    Returns
    -------
    int
        0 to go on; 1 budget spent, 2 iterations done, 3 ``f_min`` reached, 4 ``vol_tol``, 5 ``len_tol``; ``NAN`` if a
        score is NaN, and then nothing has changed.
    """
    cdef int status
    with nogil:
        status = direct_update(&state.direct, &scores[0])
    return status
