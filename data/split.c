/* split.c - keyed permutations, and splits made of them. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A Feistel network on the smallest even number of bits that holds n, walked until it lands
 * inside [0, n): a permutation without a table, so any thread can ask for any place of any
 * epoch's order. Source: Black, Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002,
 * sections 3 and 4. */
int64_t qn__permute(uint64_t key, int64_t i, int64_t n)
{
    enum { ROUNDS = 8 };
    int half = 1;
    while (half < 31 && (int64_t)1 << 2 * half < n) half++;
    uint32_t mask = ((uint32_t)1 << half) - 1;
    uint64_t x = (uint64_t)i;
    do {
        uint32_t left = (uint32_t)(x >> half) & mask, right = (uint32_t)x & mask;
        for (uint32_t r = 0; r < ROUNDS; r++) {
            uint32_t next = left ^ (qn__philox(key, right, r, 0, 0).w[0] & mask);
            left = right;
            right = next;
        }
        x = (uint64_t)left << half | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

void qn_indices_free(qn_indices *indices)
{
    if (!indices) return;
    qn__free(NULL, indices->at, (size_t)indices->n * sizeof *indices->at);
    *indices = (qn_indices){ 0 };
}

/* ---- the order in which samples are dealt out --------------------------------------------- */

struct card {
    int64_t sample;
    int32_t label;
    int64_t rank; /* of the shuffle */
};

static int by_label_then_rank(const void *a, const void *b)
{
    const struct card *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Shuffled samples; stratified: class by class. Dealing them out evenly then divides each class
 * evenly. */
static qn_status deal(struct card **out, int64_t *n, const qn_dataset *ds, const qn_indices *from, uint64_t seed,
                      bool stratified, qn_error *err)
{
    int64_t count = from ? from->n : qn_dataset_count(ds);
    uint64_t key = qn__stream_key(seed, qn__hash_str("split"));
    if (stratified && !ds->label)
        return qn__fail(err, 2301, QN_AT_FIELD("stratified"), "%s has no class labels; expected some",
                        qn__show(ds->name).s);
    struct card *cards = qn__calloc(NULL, (size_t)count, sizeof *cards);
    if (!cards) return qn__nomem(err, "split", (size_t)count * sizeof *cards);
    for (int64_t i = 0; i < count; i++) {
        int64_t sample = from ? from->at[i] : i;
        cards[i] = (struct card){ sample, stratified ? qn_dataset_label(ds, sample) : 0, qn__permute(key, i, count) };
    }
    if (count) qsort(cards, (size_t)count, sizeof *cards, by_label_then_rank);
    *out = cards;
    *n = count;
    return QN_OK;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Divides the cards by `second[i]`. */
static qn_status divide(qn_indices *a, qn_indices *b, const struct card *cards, const bool *second, int64_t n,
                        qn_error *err)
{
    int64_t nb = 0, ia = 0, ib = 0;
    for (int64_t i = 0; i < n; i++) nb += second[i];
    a->n = n - nb;
    b->n = nb;
    a->at = qn__calloc(NULL, (size_t)a->n, sizeof *a->at);
    b->at = qn__calloc(NULL, (size_t)b->n, sizeof *b->at);
    if (!a->at || !b->at) {
        qn_indices_free(a);
        qn_indices_free(b);
        return qn__nomem(err, "split", (size_t)n * sizeof *a->at);
    }
    for (int64_t i = 0; i < n; i++) {
        if (second[i])
            b->at[ib++] = cards[i].sample;
        else
            a->at[ia++] = cards[i].sample;
    }
    if (a->n) qsort(a->at, (size_t)a->n, sizeof *a->at, ascending);
    if (b->n) qsort(b->at, (size_t)b->n, sizeof *b->at, ascending);
    return QN_OK;
}

qn_status qn_split_fraction(qn_indices *first, qn_indices *second, const qn_dataset *ds, const qn_indices *from,
                            double fraction, uint64_t seed, bool stratified, qn_error *err)
{
    struct card *cards;
    int64_t n;
    *first = *second = (qn_indices){ 0 };
    if (!(fraction > 0 && fraction < 1))
        return qn__fail(err, 2301, QN_AT_FIELD("fraction"), "%g; expected more than 0, less than 1", fraction);
    QN_TRY(deal(&cards, &n, ds, from, seed, stratified, err));
    int64_t want = (int64_t)llround(fraction * (double)n);
    bool *chosen = qn__calloc(NULL, (size_t)n, sizeof *chosen);
    qn_status status = QN_OK;
    if (!chosen)
        status = qn__nomem(err, "split", (size_t)n);
    else if (want < 1 || want >= n)
        status = qn__fail(err, 3054, &(struct qn__where){ .file = ds->name, .offset = -1, .field = "split" },
                          "%lld and %lld samples; expected at least 1 each", (long long)(n - want), (long long)want);
    /* Evenly spaced along the order (Bresenham's line), so that each class gives its share. */
    for (int64_t i = 0, sum = n / 2; !status && i < n; i++) {
        sum += want;
        chosen[i] = sum >= n;
        if (sum >= n) sum -= n;
    }
    if (!status) status = divide(first, second, cards, chosen, n, err);
    qn__free(NULL, chosen, (size_t)n);
    qn__free(NULL, cards, (size_t)n * sizeof *cards);
    return status;
}

qn_status qn_split_fold(qn_indices *train, qn_indices *valid, const qn_dataset *ds, const qn_indices *from, int k,
                        int fold, uint64_t seed, bool stratified, qn_error *err)
{
    struct card *cards;
    int64_t n = from ? from->n : qn_dataset_count(ds);
    *train = *valid = (qn_indices){ 0 };
    if (k < 2 || k > n) return qn__fail(err, 2301, QN_AT_FIELD("folds"), "%d; expected 2..%lld", k, (long long)n);
    if (fold < 0 || fold >= k) return qn__fail(err, 2301, QN_AT_FIELD("fold"), "%d; expected 0..%d", fold, k - 1);
    QN_TRY(deal(&cards, &n, ds, from, seed, stratified, err));
    bool *chosen = qn__calloc(NULL, (size_t)n, sizeof *chosen);
    qn_status status = chosen ? QN_OK : qn__nomem(err, "split", (size_t)n);
    for (int64_t i = 0; !status && i < n; i++) chosen[i] = i % k == fold;
    if (!status) status = divide(train, valid, cards, chosen, n, err);
    qn__free(NULL, chosen, (size_t)n);
    qn__free(NULL, cards, (size_t)n * sizeof *cards);
    return status;
}
