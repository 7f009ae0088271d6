/* xent.h - targets of cross-entropy: class indices or probabilities, smoothing, class weights, ignored rows. */
#ifndef QN_KERNELS_CPU_XENT_H
#define QN_KERNELS_CPU_XENT_H
#include "softmax.h"

struct target {
    const struct qn__view *view;
    const REAL *weight; /* [V], or NULL */
    const struct qn__xent_attr *attr;
    int64_t width;
    bool index;
};

static inline struct target target_of(const struct qn__args *a, const struct qn__view *target, int64_t width)
{
    const struct qn__xent_attr *attr = a->attr;
    return (struct target){ target, attr->has_weight ? qn__real(&a->x[a->n_in - 1]) : NULL, attr, width,
                            target->dtype == QN_I32 || target->dtype == QN_I64 };
}

static inline int64_t class_of(const struct target *t, int64_t row)
{
    return t->view->dtype == QN_I64 ? ((const int64_t *)t->view->data)[row] : ((const int32_t *)t->view->data)[row];
}
static inline bool is_ignored(const struct target *t, int64_t row)
{
    return t->index && t->attr->use_ignore && class_of(t, row) == t->attr->ignore_index;
}

/* Every class index before any is used. */
static inline qn_status check_classes(const struct target *t, int64_t rows, const char *op, qn_error *err)
{
    for (int64_t i = 0; t->index && i < rows; i++) {
        int64_t c = class_of(t, i);
        if (!is_ignored(t, i) && (c < 0 || c >= t->width))
            return qn__fail(err, 3041, QN_AT_FIELD(op), "target[%lld]: %lld; expected 0..%lld", (long long)i,
                            (long long)c, (long long)t->width - 1);
    }
    return QN_OK;
}

/* u_v c_v: the smoothed target times the class weight. */
static inline double share(const struct target *t, int64_t row, int64_t v)
{
    double hard = t->index ? (double)(class_of(t, row) == v) : (double)qn__real(t->view)[row * t->width + v];
    double smooth = (1 - t->attr->smoothing) * hard + t->attr->smoothing / (double)t->width;
    return t->weight ? smooth * (double)t->weight[v] : smooth;
}
/* One class, no smoothing: only that class has a share. */
static inline bool is_one_hot(const struct target *t) { return t->index && !(t->attr->smoothing > 0); }
#endif
