/* rungs.h - the lower rungs of ladders: see struct qn__rung. */
#ifndef QN_KERNELS_CUDA_RUNGS_H
#define QN_KERNELS_CUDA_RUNGS_H
#include "../../core/backend.h"

extern const struct qn__rung qn__cuda_rungs[];
#endif
