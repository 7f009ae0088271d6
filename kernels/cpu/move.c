/* move.c - the loops of move.h. */
#include "move.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { CHUNK = 1 << 16 };

void QN_CAT(qn__copy_bytes, KIND)(void *to, const void *from, int64_t n, int threads)
{
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static) if (chunks > 1)
    for (int64_t i = 0; i < chunks; i++) {
        int64_t at = i * CHUNK, size = n - at < CHUNK ? n - at : CHUNK;
        memcpy((char *)to + at, (const char *)from + at, (size_t)size);
    }
}

/* ---- boxes ------------------------------------------------------------------------------------------ */

struct qn__box QN_CAT(qn__merge_box, KIND)(const struct qn__box *b)
{
    struct qn__box m = { 0 };
    for (int i = 0; i < b->rank; i++) {
        if (b->dim[i] == 1) continue;
        int k = m.rank - 1;
        if (k >= 0 && m.to[k] == b->to[i] * b->dim[i] && m.from[k] == b->from[i] * b->dim[i]) {
            m.dim[k] *= b->dim[i];
            m.to[k] = b->to[i];
            m.from[k] = b->from[i];
        } else {
            m.dim[m.rank] = b->dim[i];
            m.to[m.rank] = b->to[i];
            m.from[m.rank++] = b->from[i];
        }
    }
    return m;
}

#define LINE(type) \
    for (int64_t i = 0; i < n; i++) memcpy((char *)to + i * to_step, (const char *)from + i * from_step, sizeof(type))

/* n elements, to_step and from_step bytes apart */
static void line(void *to, int64_t to_step, const void *from, int64_t from_step, int64_t n, size_t size)
{
    if (to_step == (int64_t)size && from_step == (int64_t)size)
        memcpy(to, from, (size_t)n * size);
    else if (size == 4)
        LINE(uint32_t);
    else if (size == 8)
        LINE(uint64_t);
    else if (size == 2)
        LINE(uint16_t);
    else
        LINE(uint8_t);
}

void QN_CAT(qn__copy_box, KIND)(void *to, const void *from, const struct qn__box *box, size_t size, int threads)
{
    struct qn__box b = QN_CAT(qn__merge_box, KIND)(box);
    int64_t rows = 1, last = b.rank - 1;
    for (int i = 0; i < box->rank; i++)
        if (box->dim[i] == 0) return;
    if (b.rank == 0 || (b.rank == 1 && b.to[0] == (int64_t)size && b.from[0] == (int64_t)size)) {
        QN_CAT(qn__copy_bytes, KIND)(to, from, (b.rank ? b.dim[0] : 1) * (int64_t)size, threads);
        return;
    }
    for (int64_t i = 0; i < last; i++) rows *= b.dim[i];
#pragma omp parallel for num_threads(threads) schedule(static) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) {
        int64_t index = r, at_to = 0, at_from = 0;
        for (int64_t i = last - 1; i >= 0; i--) {
            at_to += index % b.dim[i] * b.to[i];
            at_from += index % b.dim[i] * b.from[i];
            index /= b.dim[i];
        }
        line((char *)to + at_to, b.to[last], (const char *)from + at_from, b.from[last], b.dim[last], size);
    }
}

/* ---- matrices ---------------------------------------------------------------------------------------- */

#define TURN(type) \
    static void turn_##type(type *to, int64_t to_row, const type *from, int64_t from_row, int64_t rows, \
                            int64_t columns) \
    { \
        for (int64_t j = 0; j < columns; j++) \
            for (int64_t i = 0; i < rows; i++) to[j * to_row + i] = from[i * from_row + j]; \
    }
TURN(uint8_t)
TURN(uint16_t)
TURN(uint32_t)
TURN(uint64_t)

/* Elements of a tile's side: a tile stays in the first-level cache. */
enum { TILE = 32 };

/* Squares of four by four; returns whether there is anything to do them with. */
static bool squares_4(uint32_t *to, int64_t to_row, const uint32_t *from, int64_t from_row, int64_t rows,
                      int64_t columns)
{
#ifdef __SSE2__
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t j = 0; j < columns; j += 4) {
            const uint32_t *f = from + i * from_row + j;
            __m128i a = _mm_loadu_si128((const void *)f), b = _mm_loadu_si128((const void *)(f + from_row));
            __m128i c = _mm_loadu_si128((const void *)(f + 2 * from_row));
            __m128i d = _mm_loadu_si128((const void *)(f + 3 * from_row));
            __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
            __m128i ab_high = _mm_unpackhi_epi32(a, b), cd_high = _mm_unpackhi_epi32(c, d);
            uint32_t *t = to + j * to_row + i;
            _mm_storeu_si128((void *)t, _mm_unpacklo_epi64(ab, cd));
            _mm_storeu_si128((void *)(t + to_row), _mm_unpackhi_epi64(ab, cd));
            _mm_storeu_si128((void *)(t + 2 * to_row), _mm_unpacklo_epi64(ab_high, cd_high));
            _mm_storeu_si128((void *)(t + 3 * to_row), _mm_unpackhi_epi64(ab_high, cd_high));
        }
    return true;
#else
    (void)to, (void)to_row, (void)from, (void)from_row, (void)rows, (void)columns;
    return false;
#endif
}

static void tile_4(uint32_t *to, int64_t to_row, const uint32_t *from, int64_t from_row, int64_t rows, int64_t columns)
{
    int64_t m = rows / 4 * 4, n = columns / 4 * 4;
    if (!squares_4(to, to_row, from, from_row, m, n)) m = 0;
    turn_uint32_t(to + m, to_row, from + m * from_row, from_row, rows - m, columns);
    turn_uint32_t(to + n * to_row, to_row, from + n, from_row, m, columns - n);
}

static void turn_4(uint32_t *to, int64_t to_row, const uint32_t *from, int64_t from_row, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < columns; j += TILE)
            tile_4(to + j * to_row + i, to_row, from + i * from_row + j, from_row, rows - i < TILE ? rows - i : TILE,
                   columns - j < TILE ? columns - j : TILE);
}

static void turn_8(uint64_t *to, int64_t to_row, const uint64_t *from, int64_t from_row, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < columns; j += TILE)
            turn_uint64_t(to + j * to_row + i, to_row, from + i * from_row + j, from_row,
                          rows - i < TILE ? rows - i : TILE, columns - j < TILE ? columns - j : TILE);
}

void QN_CAT(qn__turn, KIND)(void *to, int64_t to_row, const void *from, int64_t from_row, int64_t rows, int64_t columns,
                            size_t size)
{
    if (size == 4)
        turn_4(to, to_row, from, from_row, rows, columns);
    else if (size == 8)
        turn_8(to, to_row, from, from_row, rows, columns);
    else if (size == 2)
        turn_uint16_t(to, to_row, from, from_row, rows, columns);
    else
        turn_uint8_t(to, to_row, from, from_row, rows, columns);
}
