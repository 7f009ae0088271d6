/* embedding.c - a table of vectors, looked up by index; and the same table as the last projection. */
#include "../include/quern/layers.h"
#include "weights.h"

static qn_t table(qn_graph *g, const char *name, qn_dtype dtype, int64_t vocabulary, int64_t features,
                  const qn_init *weight)
{
    qn_init init = qn__narrow_init(weight);
    qn_scope_push(g, name);
    qn_t w = qn_param(g, "weight", dtype, 2, (int64_t[]){ vocabulary, features }, &init);
    qn_scope_pop(g);
    return w;
}

qn_t qn_embedding(qn_graph *g, const char *name, qn_t index, qn_dtype dtype, int64_t vocabulary, int64_t features,
                  const qn_init *weight)
{
    return qn_gather(g, table(g, name, dtype, vocabulary, features, weight), index, 0);
}

qn_t qn_unembed(qn_graph *g, const char *name, qn_t x, int64_t vocabulary, const qn_init *weight)
{
    qn_t w = table(g, name, qn_dtype_of(g, x), vocabulary, qn_dim(g, x, -1), weight);
    return qn_matmul(g, x, w, &(qn_matmul_opts){ .transpose_b = true });
}
