/* warp.cpp - what a warp does together: shuffles, votes, reductions, and the tensor cores' instructions. */
#include "fiber.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <string.h>

namespace cudasim
{

#define EACH_LANE(l, mask) \
    for (uint32_t l##_rest = (mask), l; l##_rest && (l = (uint32_t)__builtin_ctz(l##_rest), true); \
         l##_rest &= l##_rest - 1)

/* ---- shuffles, votes, integer reductions --------------------------------------------------------------- */

static void shuffle_work(Meeting *m)
{
    EACH_LANE(l, m->mask)
    {
        int64_t from = m->extra[l] < 0 ? (int64_t)l : m->extra[l];
        if (!(m->mask >> from & 1)) {
            report("%s at %s:%d: lane %u reads lane %d, which is not in the mask 0x%08x", m->what, m->file, m->line, l,
                   (int)from, m->mask);
            block.failed = true;
            return;
        }
        m->out[l] = m->in[from];
    }
}
uint64_t shuffle(uint32_t mask, uint64_t bits, int source, const char *what, const char *file, int line)
{
    return meet(mask, what, bits, source, shuffle_work, file, line);
}

static void ballot_work(Meeting *m)
{
    uint64_t votes = 0;
    EACH_LANE(l, m->mask) votes |= (uint64_t)(m->in[l] != 0) << l;
    EACH_LANE(l, m->mask) m->out[l] = votes;
}
uint32_t ballot(uint32_t mask, int predicate, const char *what, const char *file, int line)
{
    return (uint32_t)meet(mask, what, predicate != 0, 0, ballot_work, file, line);
}

static void match_work(Meeting *m)
{
    EACH_LANE(l, m->mask)
    {
        m->out[l] = 0;
        EACH_LANE(k, m->mask) m->out[l] |= (uint64_t)(m->in[k] == m->in[l]) << k;
    }
}
uint32_t match_any(uint32_t mask, uint64_t bits, const char *file, int line)
{
    return (uint32_t)meet(mask, "__match_any_sync", bits, 0, match_work, file, line);
}

static void reduce_work(Meeting *m)
{
    int64_t r = 0;
    bool first = true;
    EACH_LANE(l, m->mask)
    {
        int64_t v = (int64_t)m->in[l];
        switch (first ? -1 : (int)m->extra[l]) {
        case -1: r = v; break;
        case ADD: r += v; break;
        case MIN: r = v < r ? v : r; break;
        case MAX: r = v > r ? v : r; break;
        case AND: r &= v; break;
        case OR: r |= v; break;
        case XOR: r ^= v; break;
        }
        first = false;
    }
    EACH_LANE(l, m->mask) m->out[l] = (uint64_t)r;
}
uint64_t reduce(uint32_t mask, int64_t value, Reduction how, const char *what, const char *file, int line)
{
    return meet(mask, what, (uint64_t)value, how, reduce_work, file, line);
}

static void sync_work(Meeting *m)
{
    (void)m;
    if (checked) shadow_warp_sync(block.thread / WARP, m->mask);
}
void warp_sync(uint32_t mask, const char *file, int line) { meet(mask, "__syncwarp", 0, 0, sync_work, file, line); }

/* ---- whole-warp sums: the butterfly of gpu.h, all its steps at once -------------------------------------- */

static float as_float(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float f;
    memcpy(&f, &low, sizeof f);
    return f;
}
static uint64_t as_bits(float f)
{
    uint32_t low;
    memcpy(&low, &f, sizeof low);
    return low;
}

static void sum_work(Meeting *m)
{
    float v[WARP];
    for (int l = 0; l < WARP; l++) v[l] = as_float(m->in[l]);
    /* Addition commutes, so all lanes end with the bits of lane 0. */
    for (int o = WARP / 2; o; o >>= 1)
        for (int l = 0; l < o; l++) v[l] += v[l + o];
    for (int l = 0; l < WARP; l++) m->out[l] = as_bits(v[0]);
}
float warp_sum(float v, const char *file, int line)
{
    return as_float(meet(~0u, "warp_sum", as_bits(v), 0, sum_work, file, line));
}

static void max_work(Meeting *m)
{
    float v[WARP], w[WARP];
    for (int l = 0; l < WARP; l++) v[l] = as_float(m->in[l]);
    for (int o = WARP / 2; o; o >>= 1) {
        for (int l = 0; l < WARP; l++) w[l] = v[l] != v[l] || v[l] > v[l ^ o] ? v[l] : v[l ^ o];
        memcpy(v, w, sizeof v);
    }
    for (int l = 0; l < WARP; l++) m->out[l] = as_bits(v[l]);
}
float warp_max(float v, const char *file, int line)
{
    return as_float(meet(~0u, "warp_max", as_bits(v), 0, max_work, file, line));
}

/* ---- mma.m16n8k16 ----------------------------------------------------------------------------------------- */

struct Fragments {
    float *d;
    const uint32_t *a, *b;
};

static float low_bf16(uint32_t r) { return as_float(r << 16); }
static float high_bf16(uint32_t r) { return as_float(r & 0xffff0000u); }
static float half_value(uint32_t bits)
{
    __half_raw raw;
    raw.x = (unsigned short)bits;
    return __half2float(__half(raw));
}
static float low_half(uint32_t r) { return half_value(r & 0xffffu); }
static float high_half(uint32_t r) { return half_value(r >> 16); }

/* Fragments as in the PTX ISA, "Matrix Fragments for mma.m16n8k16": lane = 4 g + t. */
template <float (*Low)(uint32_t), float (*High)(uint32_t)> static void mma_work(Meeting *m)
{
    if (counting) count_matrix_product();
    float A[16][16], B[16][8], C[16][8];
    for (int l = 0; l < WARP; l++) {
        const Fragments *f = (const Fragments *)m->in[l];
        int g = l >> 2, t = (l & 3) * 2;
        for (int part = 0; part < 4; part++) {
            float *row = A[g + (part & 1) * 8] + t + (part >> 1) * 8;
            row[0] = Low(f->a[part]);
            row[1] = High(f->a[part]);
        }
        for (int part = 0; part < 2; part++) {
            B[t + part * 8][g] = Low(f->b[part]);
            B[t + part * 8 + 1][g] = High(f->b[part]);
        }
        for (int part = 0; part < 4; part++) C[g + (part >> 1) * 8][t + (part & 1)] = f->d[part];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) C[i][j] += A[i][k] * B[k][j];
    for (int l = 0; l < WARP; l++) {
        const Fragments *f = (const Fragments *)m->in[l];
        int g = l >> 2, t = (l & 3) * 2;
        for (int part = 0; part < 4; part++) f->d[part] = C[g + (part >> 1) * 8][t + (part & 1)];
        m->out[l] = 0;
    }
}
void mma_bf16(float *d, const uint32_t *a, const uint32_t *b, const char *file, int line)
{
    Fragments f = { d, a, b };
    meet(~0u, "mma.m16n8k16.bf16", (uint64_t)&f, 0, mma_work<low_bf16, high_bf16>, file, line);
}
void mma_half(float *d, const uint32_t *a, const uint32_t *b, const char *file, int line)
{
    Fragments f = { d, a, b };
    meet(~0u, "mma.m16n8k16.f16", (uint64_t)&f, 0, mma_work<low_half, high_half>, file, line);
}

/* ---- ldmatrix --------------------------------------------------------------------------------------------- */

struct Load {
    uint32_t *r;
    const void *row;
    const void *place;
};

static bool row_fits(const Meeting *m, int l, const void *row)
{
    if ((uintptr_t)row & 15)
        report("%s at %s:%d: the row address of lane %d, %p, is not a multiple of 16", m->what, m->file, m->line, l,
               row);
    else if (!in_shared(row))
        report("%s at %s:%d: the row address of lane %d, %p, is not shared memory", m->what, m->file, m->line, l, row);
    else
        return true;
    block.failed = true;
    return false;
}

static void ldmatrix_work(Meeting *m)
{
    uint16_t matrix[4][8][8];
    int first = block.thread / WARP * WARP;
    for (int l = 0; l < WARP; l++) {
        const Load *load = (const Load *)m->in[l];
        if (!row_fits(m, l, load->row)) return;
        if (checked) shadow_access(load->row, 16, READ, first + l, load->place);
        memcpy(matrix[l >> 3][l & 7], load->row, 16);
    }
    for (int l = 0; l < WARP; l++) {
        const Load *load = (const Load *)m->in[l];
        int r = l >> 2, c = (l & 3) * 2;
        for (int i = 0; i < 4; i++) {
            uint32_t low = m->extra[l] ? matrix[i][c][r] : matrix[i][r][c];
            uint32_t high = m->extra[l] ? matrix[i][c + 1][r] : matrix[i][r][c + 1];
            load->r[i] = low | high << 16;
        }
        m->out[l] = 0;
    }
}
void ldmatrix(uint32_t *r, const void *row, bool transposed, const char *file, int line)
{
    Load load = { r, row, __builtin_return_address(0) };
    meet(~0u, transposed ? "ldmatrix.x4.trans" : "ldmatrix.x4", (uint64_t)&load, transposed, ldmatrix_work, file, line);
}

} // namespace cudasim
