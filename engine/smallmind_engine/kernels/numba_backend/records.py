"""Fields of the records that compiled code and Python share: arrays of 64-bit integers."""

from __future__ import annotations

from enum import IntEnum

from smallmind_engine.cache import KVType


class Matrix(IntEnum):
    """A packed matrix. Addresses are 0 where there is no such plane."""

    KERNEL = 0  # address of the function that multiplies with it; 0 for no matrix
    ROWS = 1
    COLUMNS = 2
    GROUPS = 3  # of 16 rows
    LOW = 4
    HIGH = 5
    SCALES = 6
    SUPERS = 7
    BYTES = 8  # of all planes
    FLOAT_INPUT = 9  # 1: takes floats; 0: takes quantised inputs


class Job(IntEnum):
    """A piece of a matrix product: some groups of rows for some tokens."""

    GROUP_BEGIN = 0
    GROUP_END = 1
    TOKEN_BEGIN = 2
    TOKEN_END = 3
    STRIDE = 4  # tokens that a block of the inputs has room for, a multiple of four
    CODES = 5  # int8 [blocks][stride][32]
    SCALES = 6  # float32 [blocks][stride][SCALE_FIELDS], see ``InputScale``
    FLOATS = 7  # float32 [tokens][columns]: inputs of matrices that take floats
    OUT = 8  # float32 [tokens][...]
    OUT_STRIDE = 9  # bytes from token to token
    SCRATCH = 10  # 64 bytes for each of ``TOKEN_TILE`` tokens, of this thread (bounds take 128)
    FLOAT_STRIDE = 11  # bytes from token to token of FLOATS
    TERMS = 12  # float32 [tokens][blocks][TERMS], see ``screening``
    TERM_STRIDE = 13  # bytes from token to token of TERMS
    AHEAD = 14  # address of the next of a list of addresses to be asked for; 0 for none
    AHEAD_END = 15  # address of the last, which is asked for again and again
    AHEAD_OFFSET = 16  # what to add to each
    PICKED = 17  # int64 [4]: tokens, for products of those only
    OUTLIERS = 18  # int64 [OUTLIERS][...], see ``Outlier``
    OUTLIER_COUNT = 19  # how many bounds of one token take in full: all or none


class InputScale(IntEnum):
    """What belongs to a token's block of codes.

    Side by side: threads that quantise neighbouring tokens would otherwise write to the same cache
    lines, and wait for each other.
    """

    FACTOR = 0
    SUM = 1  # factor times the sum of the codes
    HALF_SUMS = 2  # likewise for each half of a block


SCALE_FIELDS = 4


class Term(IntEnum):
    """Numbers of a block of inputs that bounds of outputs are made of, see ``screening``."""

    SCALE = 0  # of the products
    OFFSET = 1  # added to them
    VARIANCE = 2  # that the lower halves of the codes can add to an output


TERMS = len(Term)
TERM_BYTES = 4 * TERMS

OUTLIERS = 4
"""Inputs of a step that are taken in full where outputs of several tokens are bounded, see
``outliers``. Behind its terms stand their values for each token."""


class Outlier(IntEnum):
    """Where the lower halves of the codes that belong to an input are."""

    INPUT = 0  # which one
    PLACE = 1  # bytes from the begin of a group of rows in the low plane
    SHIFT = 2  # bits below them in the 32-bit integer of a row


TOKEN_TILE = 128
"""Tokens that one job has at most."""

SPARE_TOKENS = 4
"""Rows behind the last token that a product may read and write: it takes so many at once."""


class Attend(IntEnum):
    """Some query rows of one key-value head, over the pages of a sequence."""

    PAGES = 0  # address of the addresses of the sequence's pages
    PAGE_BEGIN = 1
    PAGE_END = 2
    KEYS = 3  # bytes from a page's begin to this layer's and head's keys
    VALUES = 4
    KEY_FACTORS = 5  # for 8-bit caches
    VALUE_FACTORS = 6
    KEY_SIZE = 7
    VALUE_SIZE = 8  # as stored: a multiple of 16
    CAP = 9  # of the scores, float32 bits; 0 for none
    SCRATCH = 10  # ``MAX_QUERY_ROWS * (PAGE_TOKENS + VALUE_SIZE)`` floats, aligned to 64 bytes
    ROWS = 11  # here begin, for each row, the fields of ``QueryRow``


MOST_BEST = 32
"""Rows of logits of a step that only the best entry may be wanted of; a multiple of 4."""

MOST_AHEAD_TOKENS = 32
"""Tokens of a step that asks for keys and values ahead: with more, attention computes more than it
reads. See ``kv_ahead``."""

SEARCHED_GROUPS = 16
"""Groups that a thread looks through at once for those that bounds leave undecided."""

BEST_GROUPS = 16
"""Groups of rows that are computed at once where only the best is kept."""


class BestOnly(IntEnum):
    """How the best entry of each row of logits is found."""

    NO = 0  # all entries are wanted
    BY_BOUNDS = 1  # see ``screening``
    OF_ALL = 2  # see ``best_outputs``


class QueryRow(IntEnum):
    """One query row within an ``Attend`` record."""

    QUERY = 0  # address of KEY_SIZE floats, already scaled
    FIRST = 1  # first position that it sees
    LAST = 2
    OUT = 3  # address of OUT_SIZE floats
    OUT_SIZE = 4  # floats to write


MAX_QUERY_ROWS = 4
ATTEND_WORDS = Attend.ROWS + MAX_QUERY_ROWS * len(QueryRow)
PAGE_TOKENS = 64


class Put(IntEnum):
    """A key or value to be written into a page."""

    SOURCE = 0  # address of COUNT floats
    COUNT = 1
    TARGET = 2
    STEP = 3  # bytes from item to item in the page
    FACTOR = 4  # address of the position's float factor, for 8-bit caches


PUT_WORDS = len(Put)


class Size(IntEnum):
    """Numbers that one step is given."""

    LAYERS = 0
    WIDTH = 1
    HEADS = 2
    KV_HEADS = 3
    KEY = 4  # size of a query or key head
    VALUE = 5
    VALUE_STORED = 6  # VALUE rounded up to 16
    LAYER_NORM = 7  # 1: centred norm; 0: RMS
    GELU = 8
    THREADS = 9
    TOKENS = 10
    STRIDE = 11  # TOKENS rounded up to 4
    PRIVATE = 12  # 1: each thread keeps its own copy of the residual stream
    SEQUENCES = 13
    WANTED = 14  # rows of logits
    LAYER_BEGIN = 15
    LAYER_END = 16
    KEYS_AT = 17  # column of the first key in a row of queries, keys and values
    VALUES_AT = 18
    KEY_HEAD_BYTES = 19  # from head to head in a page
    VALUE_HEAD_BYTES = 20
    ITEM_BYTES = 21  # of a stored key or value
    QUERY_ROWS = 22  # that one attention job has
    TIMED = 23  # 1: thread 0 writes down when each operation ended
    OUTPUT = 24  # matrix of the output projection; -1 for a step without one
    OUTPUT_NORM = 25  # vector
    OUTPUT_NORM_BIAS = 26
    BEST_ONLY = 28  # see ``BestOnly``
    EMBED = 27  # 1: the output matrix is the embedding, and the step looks rows up itself


class Constant(IntEnum):
    """Floats that one step is given."""

    NORM_EPS = 0
    ATTENTION_SCALE = 1
    ATTENTION_CAP = 2  # 0 for none
    LOGIT_CAP = 3
    EMBEDDING_SCALE = 4


class Layer(IntEnum):
    """A layer: matrices by index, vectors by where they begin; -1 for none."""

    QUERY = 0
    KEY = 1
    VALUE = 2
    ATTENTION_OUTPUT = 3
    GATE = 4
    UP = 5
    DOWN = 6
    ATTENTION_NORM = 7
    ATTENTION_NORM_BIAS = 8
    QKV_BIAS = 9  # as the row of queries, keys and values
    QUERY_NORM = 10
    KEY_NORM = 11
    ATTENTION_OUTPUT_BIAS = 12
    POST_ATTENTION_NORM = 13
    FFN_NORM = 14
    FFN_NORM_BIAS = 15
    GATE_BIAS = 16
    UP_BIAS = 17
    DOWN_BIAS = 18
    POST_FFN_NORM = 19
    WINDOW = 20  # positions; 0 for all
    ROTATION = 21  # index of a rotation table
    KEYS = 22  # bytes from a page's begin to this layer's first head
    VALUES = 23
    KEY_FACTORS = 24
    VALUE_FACTORS = 25
    PAIRS = 26  # rotated in each head


class Sequence(IntEnum):
    """A sequence in a step."""

    TOKEN_BEGIN = 0
    TOKEN_END = 1
    LENGTH = 2  # positions before the step's
    PAGES = 3  # address of the addresses of its pages


class Function(IntEnum):
    """Compiled functions that a step calls by address."""

    ATTEND = 0  # for one query row; those for more follow
    STORE_ROW = 4
    EMBED = 5
    SCREEN = 6  # for one token; see ``screening``
    SCREEN_SEVERAL = 7
    PICKED = 8  # the product with the output matrix for tokens of a list


FUNCTIONS = 9


class Operation(IntEnum):
    """What a step spends its time on, in the order within a layer."""

    ATTENTION_NORM = 0
    QKV = 1
    ROTATE = 2
    ATTENTION = 3
    ATTENTION_OUTPUT = 4
    FFN_NORM = 5
    UP = 6
    DOWN = 7


COUNTERS_PER_LAYER = 5
"""Operations of a layer whose pieces are handed out as threads come by."""

COUNTER_WORDS = 8
"""Words from counter to counter, so that each has a cache line."""


class Pick(IntEnum):
    """A row of a matrix, to be read back as floats."""

    ROW = 0
    OUT = 1  # address of COLUMNS floats


LINE_WORDS = 8
"""64-bit words of a cache line."""

LINE_FLOATS = 16
"""32-bit floats of a cache line."""

BARRIER_WORDS = 2 * LINE_WORDS
"""Of a barrier, see ``sync_ir.wait_for_all``."""


class Mail(IntEnum):
    """Words by which the leader of a team tells its members what to do; see ``sync_ir.serve``."""

    CALLS = 0  # so far
    FUNCTION = 1  # address of what to call with the member's number and ARGUMENT; 0 to end
    ARGUMENT = 2
    SEEN = 8  # here begins, on a cache line of its own for each member, how many calls it has done


ITEM_BYTES = {KVType.F32: 4, KVType.F16: 2, KVType.INT8: 1}
"""Of a stored key or value."""


class CeilingShape(IntEnum):
    """What the measurement of byte products goes through."""

    VECTOR_BYTES = 64
    VECTORS = 8  # weights of a step, as many as a block of 32 columns has for 16 rows
    TOKENS = 4  # products that use the same weights, as a kernel's tile has them
    BLOCKS = 8  # gone through again and again; they stay in the first cache
