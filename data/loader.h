/* loader.h - one batch and how it is made, shared by loader.c (threads) and batch.c (contents). */
#ifndef QN_DATA_LOADER_H
#define QN_DATA_LOADER_H
#include "data.h"

/* All that decides a batch's contents; constant after opening. */
struct qn__plan {
    qn_dataset *ds;
    int64_t *over;             /* [n] sample numbers */
    int64_t n, used;           /* used: without a dropped tail */
    int64_t size, target_size; /* floats per sample */
    int batch;
    bool shuffle, soft; /* soft: class labels become target rows (mixup) */
    uint64_t order_key, augment_key;
    qn_augment augment;
};

enum qn__slot_state { QN_SLOT_FREE, QN_SLOT_BUSY, QN_SLOT_READY };

struct qn__slot {
    enum qn__slot_state state;
    int worker;
    int64_t epoch, first;
    int count, n_bad;
    float *x;            /* [B,size]        */
    int32_t *label;      /* [B] or NULL     */
    float *target;       /* [B,target_size] or NULL */
    int64_t *sample;     /* [B]             */
    struct qn__bad *bad; /* [B], where bad samples are skipped */
    qn_error err;
};

/* What one thread needs to itself. */
struct qn__bench {
    uint8_t *bytes;    /* [size] a decoded picture         */
    float *plane;      /* [size] the augmentation's source */
    float *x, *target; /* copies of a batch, for mixup     */
    int64_t sample;    /* atomic; being read, for messages; -1: none */
};

/* Fills the slot for its (epoch, first). Failures are left in slot->err and slot->bad. */
void qn__batch_make(const struct qn__plan *p, struct qn__slot *s, struct qn__bench *b);
#endif
