/* move.cu - copies that change no value.
 *
 * Compulsory bytes: every element read once and written once.
 *
 * copy_strided: the result is dense, so neighbouring threads write neighbouring units of up to 16 bytes; they read
 * neighbouring units as long as a run of the operand lasts. Four independent units a thread keep memory busy.
 *
 * turn_tiled: a tile of 32 x 32 elements goes through shared memory, so that both the rows that are read and those that
 * are written are runs of 32 elements. A row of the tile is one element (of bytes: one word) longer than that, which
 * spreads a column over all banks.
 *
 * turn_thin: one extent is below 16 (channels of an image), where a tile of 32 would be mostly empty: the tile holds all
 * of the short extent and as much of the long one as makes about 1024 elements, and is walked as one run on each side.
 * The length of its rows in shared memory is chosen on the host so that the least banks collide. */
#include "move.h"

enum { THREADS = 256, EACH = 4, SIDE = 32, THIN = 16, TILE = 1024 };

/* ---- boxes --------------------------------------------------------------------------------------------- */

template <class U>
__global__ void __launch_bounds__(THREADS)
    copy_strided(U *to, const U *from, int64_t n, const __grid_constant__ struct box b)
{
    int64_t step = (int64_t)gridDim.x * THREADS * EACH;
    for (int64_t at = (int64_t)blockIdx.x * THREADS * EACH + threadIdx.x; at < n; at += step) {
        U v[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) v[k] = from[box_offset(b, at + k * THREADS)];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) to[at + k * THREADS] = v[k];
    }
}

/* One run: 16 bytes a thread and step, what is left over by the first threads. */
__global__ void __launch_bounds__(THREADS) copy_run(uint8_t *to, const uint8_t *from, int64_t bytes)
{
    int64_t n = bytes / 16, step = (int64_t)gridDim.x * THREADS * EACH;
    const uint4 *src = (const uint4 *)from;
    uint4 *dst = (uint4 *)to;
    for (int64_t at = (int64_t)blockIdx.x * THREADS * EACH + threadIdx.x; at < n; at += step) {
        uint4 v[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) v[k] = src[at + k * THREADS];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) dst[at + k * THREADS] = v[k];
    }
    int64_t rest = n * 16 + threadIdx.x;
    if (blockIdx.x == 0 && rest < bytes) to[rest] = from[rest];
}

struct copy_from qn__cuda_merged(const struct copy_from *c)
{
    struct copy_from m = *c;
    m.rank = 0;
    for (int i = 0; i < c->rank; i++) {
        if (c->dim[i] == 1) continue;
        if (m.rank > 0 && m.step[m.rank - 1] == c->step[i] * c->dim[i]) {
            m.dim[m.rank - 1] *= c->dim[i];
            m.step[m.rank - 1] = c->step[i];
        } else {
            m.dim[m.rank] = c->dim[i];
            m.step[m.rank++] = c->step[i];
        }
    }
    return m;
}

static qn_status copy_one_run(const struct qn__step *s, void *to, const void *from, int64_t bytes, qn_error *err)
{
    unsigned grid = grid_for(&s->args, ceil_div(bytes, 16 * THREADS * EACH), THREADS, 4);
    return qn__cuda_check(LAUNCH(copy_run, (grid), (THREADS), 0, s->queue->stream, (uint8_t *)to, (const uint8_t *)from,
                                 bytes),
                          "copy_run", s, err);
}

/* Elements become wider units where rows and their places allow it. */
static void widen(struct copy_from *c)
{
    int last = c->rank - 1;
    if (c->rank == 0 || c->step[last] != 1) return;
    int64_t bytes[QN_MAX_DIMS + 2];
    int n = 0;
    bytes[n++] = c->start * c->size;
    bytes[n++] = c->dim[last] * c->size;
    for (int i = 0; i < last; i++) bytes[n++] = c->step[i] * c->size;
    int64_t unit = unit_for(c->size, bytes, n), each = unit / c->size;
    c->start /= each;
    c->dim[last] /= each;
    for (int i = 0; i < last; i++) c->step[i] /= each;
    c->size = unit;
}

qn_status qn__cuda_copy(const struct qn__step *s, void *to, const void *from, const struct copy_from *whole,
                        qn_error *err)
{
    struct copy_from c = qn__cuda_merged(whole);
    struct box b = { 0, 0, {}, {} };
    int64_t n = 1, reach = 0, first = c.start * c.size;
    for (int i = 0; i < c.rank; i++)
        if (c.dim[i] == 0) return QN_OK;
    if (c.rank == 0 || (c.rank == 1 && c.step[0] == 1 && first % 16 == 0))
        return copy_one_run(s, to, (const char *)from + first, (c.rank ? c.dim[0] : 1) * c.size, err);
    widen(&c);
    for (int i = 0; i < c.rank; i++) {
        n *= c.dim[i];
        reach += (c.dim[i] - 1) * c.step[i];
    }
    b.n = c.rank;
    b.narrow = n < INT32_MAX && reach < INT32_MAX;
    for (int i = 0; i < c.rank; i++) {
        b.size[i] = divisor_of(c.dim[i]);
        b.step[i] = c.step[i];
    }
    return qn__cuda_check(with_unit(c.size,
                                    [&](auto u) {
                                        using U = decltype(u);
                                        unsigned grid = grid_for(&s->args, ceil_div(n, THREADS * EACH), THREADS, 4);
                                        return LAUNCH(copy_strided<U>, (grid), (THREADS), 0, s->queue->stream, (U *)to,
                                                      (const U *)from + c.start, n, b);
                                    }),
                          "copy_strided", s, err);
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* Where a block's tile lies: blockIdx.x = (outer, piece of columns, piece of rows). */
struct tiles {
    struct divisor row_pieces, column_pieces, outer[QN_MAX_DIMS];
    int64_t to_step[QN_MAX_DIMS], from_step[QN_MAX_DIMS], to_row, from_row, rows, columns;
    int32_t n_outer, tile_rows, tile_columns, pitch; /* of a tile; pitch: of its rows in shared memory */
    struct divisor tile_row, tile_column;            /* by tile_rows and tile_columns                    */
};
struct corner {
    int64_t i, j, to, from;
};

static __device__ __forceinline__ struct corner corner_of(const struct tiles &t)
{
    uint32_t block = blockIdx.x, q = quotient32(t.row_pieces, block);
    struct corner c;
    c.i = (int64_t)(block - q * (uint32_t)t.row_pieces.by) * t.tile_rows;
    block = quotient32(t.column_pieces, q);
    c.j = (int64_t)(q - block * (uint32_t)t.column_pieces.by) * t.tile_columns;
    c.to = c.j * t.to_row + c.i;
    c.from = c.i * t.from_row + c.j;
    for (int k = t.n_outer - 1; k >= 0; k--) {
        q = quotient32(t.outer[k], block);
        int64_t at = block - q * (uint32_t)t.outer[k].by;
        c.to += at * t.to_step[k];
        c.from += at * t.from_step[k];
        block = q;
    }
    return c;
}

template <class U>
__global__ void __launch_bounds__(THREADS) turn_tiled(U *to, const U *from, const __grid_constant__ struct tiles t)
{
    /* a row is an odd number of words long */
    CU_SHARED(U, tile, [SIDE][SIDE + (sizeof(U) < 4 ? 4 / sizeof(U) : 1)]);
    struct corner c = corner_of(t);
    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    int64_t rows = t.rows - c.i, columns = t.columns - c.j;
    U v[EACH] = {};
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (y + 8 * k < rows && x < columns) v[k] = from[c.from + (y + 8 * k) * t.from_row + x];
#pragma unroll
    for (int k = 0; k < EACH; k++) tile[y + 8 * k][x] = v[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (x < rows && y + 8 * k < columns) to[c.to + (y + 8 * k) * t.to_row + x] = tile[x][y + 8 * k];
}

template <class U>
__global__ void __launch_bounds__(THREADS) turn_thin(U *to, const U *from, const __grid_constant__ struct tiles t)
{
    CU_SHARED_DYN(U, tile);
    struct corner c = corner_of(t);
    int n = t.tile_rows * t.tile_columns;
    U v[EACH] = {};
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        int e = (int)threadIdx.x + k * THREADS, i = (int)quotient32(t.tile_column, (uint32_t)e);
        int j = e - i * t.tile_columns;
        if (c.i + i < t.rows && c.j + j < t.columns) v[k] = from[c.from + i * t.from_row + j];
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        int e = (int)threadIdx.x + k * THREADS, i = (int)quotient32(t.tile_column, (uint32_t)e);
        int j = e - i * t.tile_columns;
        if (e < n) tile[i * t.pitch + j] = v[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        int e = (int)threadIdx.x + k * THREADS, j = (int)quotient32(t.tile_row, (uint32_t)e);
        int i = e - j * t.tile_rows;
        if (e < n && c.i + i < t.rows && c.j + j < t.columns) to[c.to + j * t.to_row + i] = tile[i * t.pitch + j];
    }
}

enum qn__turn_variant qn__cuda_turn_variant(const struct turn *t)
{
    int64_t low = t->rows < t->columns ? t->rows : t->columns, high = t->rows < t->columns ? t->columns : t->rows;
    return low >= THIN ? QN_TURN_TILED : high >= SIDE ? QN_TURN_THIN : QN_TURN_NONE;
}

/* Times that the banks of shared memory are visited when a warp passes over 32 neighbours of a tile, along its rows or
 * down its columns; side: the extent in that direction. */
static int visits(bool down, int side, int pitch, int size)
{
    int worst = 0, count[32] = { 0 };
    int64_t seen[32];
    for (int lane = 0, n = 0; lane < 32; lane++) {
        int i = down ? lane % side : lane / side, j = down ? lane / side : lane % side;
        int64_t word = ((int64_t)i * pitch + j) * size / 4;
        bool again = false;
        for (int i = 0; i < n; i++) again = again || seen[i] == word;
        if (again) continue;
        seen[n++] = word;
        int bank = (int)(word % 32);
        worst = ++count[bank] > worst ? count[bank] : worst;
    }
    return worst;
}

static int best_pitch(int rows, int columns, int size)
{
    int best = columns, least = INT32_MAX;
    for (int pitch = columns; pitch < columns + 32; pitch++) {
        int n = visits(true, rows, pitch, size) + visits(false, columns, pitch, size);
        if (n < least) best = pitch;
        if (n < least) least = n;
    }
    return best;
}

/* How much of each extent a tile holds. */
static void tile_extents(struct tiles *t, bool thin)
{
    int64_t low = t->rows < t->columns ? t->rows : t->columns;
    t->tile_rows = t->tile_columns = SIDE;
    if (!thin) return;
    int long_side = (int)(TILE / low / SIDE * SIDE);
    t->tile_rows = t->rows == low ? (int)low : long_side;
    t->tile_columns = t->rows == low ? long_side : (int)low;
}

qn_status qn__cuda_turn(const struct qn__step *s, void *to, const void *from, const struct turn *turn, qn_error *err)
{
    bool thin = qn__cuda_turn_variant(turn) == QN_TURN_THIN;
    struct tiles t = {};
    t.rows = turn->rows;
    t.columns = turn->columns;
    t.to_row = turn->to_row;
    t.from_row = turn->from_row;
    tile_extents(&t, thin);
    t.pitch = best_pitch(t.tile_rows, t.tile_columns, (int)turn->size);
    t.row_pieces = divisor_of(ceil_div(t.rows, t.tile_rows));
    t.column_pieces = divisor_of(ceil_div(t.columns, t.tile_columns));
    t.tile_row = divisor_of(t.tile_rows);
    t.tile_column = divisor_of(t.tile_columns);
    int64_t blocks = t.row_pieces.by * t.column_pieces.by;
    t.n_outer = turn->n_outer;
    for (int i = 0; i < turn->n_outer; i++) {
        t.outer[i] = divisor_of(turn->outer[i]);
        t.to_step[i] = turn->to_step[i];
        t.from_step[i] = turn->from_step[i];
        blocks *= turn->outer[i];
    }
    size_t shared = thin ? (size_t)t.tile_rows * (size_t)t.pitch * (size_t)turn->size : 0;
    cudaStream_t stream = s->queue->stream;
    return qn__cuda_check(with_element(turn->size,
                                       [&](auto u) {
                                           using U = decltype(u);
                                           if (!thin)
                                               return LAUNCH(turn_tiled<U>, ((unsigned)blocks), (THREADS), 0, stream,
                                                             (U *)to, (const U *)from, t);
                                           return LAUNCH(turn_thin<U>, ((unsigned)blocks), (THREADS), shared, stream,
                                                         (U *)to, (const U *)from, t);
                                       }),
                          thin ? "turn_thin" : "turn_tiled", s, err);
}
