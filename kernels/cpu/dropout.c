/* dropout.c - y = x / (1-p) where the mask keeps, else 0; x [N,..] plain. y may be x.
 *
 * Element e of global sample n at step t is kept if word e mod 4 of Philox(key, e/4, n, n >> 32, t) is at least
 * p 2^32; key mixes the seed with the layer's name. The forward and the backward pass, any number of threads and
 * any split of the batch over runs draw the same mask. */
#include "cpu.h"
#include "../../core/philox.h"

enum { GROUP = 64 }; /* counters drawn together: enough for the compiler to use whole vectors */

QN_CLONES static void draw(uint32_t *restrict out, uint64_t key, uint32_t first, uint32_t sample, uint32_t sample_high,
                           uint32_t step)
{
    uint32_t c0[GROUP], c1[GROUP], c2[GROUP], c3[GROUP], k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t i = 0; i < GROUP; i++) {
        c0[i] = first + i;
        c1[i] = sample;
        c2[i] = sample_high;
        c3[i] = step;
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < GROUP; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < GROUP; i++) {
        out[4 * i] = c0[i];
        out[4 * i + 1] = c1[i];
        out[4 * i + 2] = c2[i];
        out[4 * i + 3] = c3[i];
    }
}

static void drop_sample(REAL *y, const REAL *x, int64_t n, uint64_t key, uint64_t sample, uint32_t t,
                        uint64_t threshold, REAL scale)
{
    uint32_t word[4 * GROUP];
    for (int64_t at = 0; at < n; at += 4 * GROUP) {
        int64_t end = n - at < 4 * GROUP ? n - at : 4 * GROUP;
        draw(word, key, (uint32_t)(at / 4), (uint32_t)sample, (uint32_t)(sample >> 32), t);
        for (int64_t i = 0; i < end; i++) y[at + i] = word[i] >= threshold ? x[at + i] * scale : 0;
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    if (a->y.dtype != QN_REAL_DTYPE) return QN_EUSAGE;
    /* the element counter has 32 bits for groups of four */
    return a->y.dim[0] && a->y.count / a->y.dim[0] >= (int64_t)1 << 34 ? QN_EUSAGE : QN_OK;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    const struct qn__dropout_attr *attr = a->attr;
    const int64_t *rng = a->x[1].data, samples = a->y.dim[0];
    uint64_t key = qn__stream_key((uint64_t)rng[0], attr->name_hash);
    uint64_t threshold = (uint64_t)(attr->p * 0x1p32);
    REAL scale = (REAL)(1 / (1 - attr->p)), *y = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]);
    int64_t n = samples ? a->y.count / samples : 0;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < samples; i++)
        drop_sample(y + i * n, x + i * n, n, key, (uint64_t)(rng[2] + i), (uint32_t)rng[1], threshold, scale);
    return QN_OK;
}

KERNEL(dropout) = { .variants = (const char *const[]){ "philox", NULL }, .pick = pick, .launch = launch };
