/* attention_pick.h - on the host, what attention and its gradient have in common: tensor cores for the types and sizes
 * that they take, f32 tiles for all else. */
#ifndef QN_KERNELS_CUDA_ATTENTION_PICK_H
#define QN_KERNELS_CUDA_ATTENTION_PICK_H
#include "attention_tensor.h"
#include "attention_tile.h"
#include "dispatch.h"

#define ATTENTION_VARIANTS "tiled", "tensor", NULL

namespace attention
{

/* l: the operand that is f32 whatever the others are; -1: none */
static inline qn_status pick_kernel(const qn__args *a, int l, shape *s, qn__choice *c)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != (i == l ? QN_F32 : a->y.dtype)) return QN_EUSAGE;
    if (!is_cuda_float(a->y.dtype) || !shape_of(a, s) || ceil_div(s->size, TILE) > 65535) return QN_EUSAGE;
    c->variant = fits_tensor(*s, a->y.dtype) ? TENSOR : TILED;
    return QN_OK;
}

/* Calls f(t, n), t a value of the storage type and n the tiles along a head's size that a block takes. */
template <class F> static inline cudaError_t with_tiles(const qn__args *a, F f)
{
    shape s;
    shape_of(a, &s);
    if (a->y.dtype == QN_BF16) return f(bf16(), number<1>());
    if (a->y.dtype == QN_F16) return f(f16(), number<1>());
    return s.size > TILE ? f(float(), number<2>()) : f(float(), number<1>());
}

} // namespace attention
#endif
