/* batch.c - the contents of one batch: a pure function of the plan, the epoch and the first
 * position. */
#include "loader.h"
#include <stdio.h>
#include <string.h>

static int64_t sample_at(const struct qn__plan *p, int64_t epoch, int64_t position)
{
    if (p->shuffle) position = qn__permute(qn__stream_at(p->order_key, (uint64_t)epoch), position, p->n);
    return p->over[position];
}

/* The message of a reader names the file; which sample that is, only the loader knows. */
static void name_sample(qn_error *err, int64_t sample)
{
    size_t n = strlen(err->text);
    if (sizeof err->text - n > 32) snprintf(err->text + n, sizeof err->text - n, "; sample %lld", (long long)sample);
}

static void put_target(const struct qn__plan *p, struct qn__slot *s, int k, int64_t sample)
{
    const qn_dataset *ds = p->ds;
    if (s->label) s->label[k] = ds->label[sample];
    if (!s->target) return;
    float *row = s->target + k * p->target_size;
    if (p->soft) {
        memset(row, 0, (size_t)p->target_size * sizeof *row);
        if (ds->label[sample] < p->target_size) row[ds->label[sample]] = 1; /* else it is an ignored one */
    } else {
        memcpy(row, ds->target + sample * p->target_size, (size_t)p->target_size * sizeof *row);
    }
}

/* Sample into place k. false: it is bad. */
static bool put_sample(const struct qn__plan *p, struct qn__slot *s, struct qn__bench *b, int k, int64_t sample,
                       qn_error *why)
{
    qn_dataset *ds = p->ds;
    float *x = s->x + k * p->size;
    __atomic_store_n(&b->sample, sample, __ATOMIC_RELAXED);
    if (qn__dataset_raw(ds, sample, x, b->bytes, why)) {
        name_sample(why, sample);
        return false;
    }
    if (ds->t.channels) {
        if (b->plane) qn__augment(&p->augment, p->augment_key, s->epoch, sample, x, b->plane, ds->t.dim);
        qn__normalise(&ds->t, x);
    }
    put_target(p, s, k, sample);
    s->sample[k] = sample;
    return true;
}

static void mix(float *row, const float *a, const float *b, float lambda, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) row[i] = lambda * a[i] + (1 - lambda) * b[i];
}

/* Each sample is mixed with the one `shift` places on in its batch; shuffled, that is a random
 * partner. */
static void mixup(const struct qn__plan *p, struct qn__slot *s, struct qn__bench *b)
{
    uint64_t key = qn__stream_key(p->augment_key, qn__hash_str("mixup"));
    if (s->count < 2) return;
    uint32_t word =
        qn__philox(key, (uint32_t)s->first, (uint32_t)((uint64_t)s->first >> 32), (uint32_t)s->epoch, UINT32_MAX).w[0];
    int shift = 1 + (int)((uint64_t)word * (uint32_t)(s->count - 1) >> 32);
    memcpy(b->x, s->x, (size_t)(s->count * p->size) * sizeof *b->x);
    memcpy(b->target, s->target, (size_t)(s->count * p->target_size) * sizeof *b->target);
    for (int k = 0; k < s->count; k++) {
        int other = (k + shift) % s->count;
        float lambda = qn__mixup_lambda(p->augment.mixup, key, s->epoch, s->first + k);
        mix(s->x + k * p->size, b->x + k * p->size, b->x + other * p->size, lambda, p->size);
        mix(s->target + k * p->target_size, b->target + k * p->target_size, b->target + other * p->target_size, lambda,
            p->target_size);
    }
}

void qn__batch_make(const struct qn__plan *p, struct qn__slot *s, struct qn__bench *b)
{
    int64_t last = s->first + p->batch < p->used ? s->first + p->batch : p->used;
    s->count = s->n_bad = 0;
    s->err.code = 0;
    for (int64_t at = s->first; at < last; at++) {
        int64_t sample = sample_at(p, s->epoch, at);
        qn_error why = { 0 };
        if (p->ds->label && p->ds->label[sample] < 0) continue; /* listed when the data set was opened */
        if (put_sample(p, s, b, s->count, sample, &why)) {
            s->count++;
        } else if (s->bad) {
            s->bad[s->n_bad++] = (struct qn__bad){ sample, why };
        } else {
            s->err = why;
            break;
        }
    }
    __atomic_store_n(&b->sample, -1, __ATOMIC_RELAXED);
    if (p->augment.mixup > 0 && !s->err.code) mixup(p, s, b);
}
