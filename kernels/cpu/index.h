/* index.h - operands that hold indices: every one is checked before the first is used. */
#ifndef QN_KERNELS_CPU_INDEX_H
#define QN_KERNELS_CPU_INDEX_H
#include "cpu.h"
#include "../../core/base.h"

static inline int64_t qn__index_at(const struct qn__view *v, int64_t i)
{
    return v->dtype == QN_I32 ? ((const int32_t *)v->data)[i] : ((const int64_t *)v->data)[i];
}

/* E3041 for the first index outside [0, size) */
static inline qn_status qn__index_check(const struct qn__view *v, int64_t size, const char *op, qn_error *err)
{
    for (int64_t i = 0; i < v->count; i++) {
        int64_t at = qn__index_at(v, i);
        if (at < 0 || at >= size)
            return qn__fail(err, 3041, QN_AT_FIELD(op), "index[%lld]: %lld; expected 0..%lld", (long long)i,
                            (long long)at, (long long)size - 1);
    }
    return QN_OK;
}
#endif
