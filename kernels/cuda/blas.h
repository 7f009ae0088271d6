/* blas.h - the door to cuBLASLt: blas.c is the only file that calls it for products.
 *
 * Everything here is row-major: Y[m,n] = A'[m,k] B'[k,n], A' = A or A^T. The library is column-major, where the same
 * bytes are Y^T = B'^T A'^T; blas.c turns it around, so that rows of the library's result are columns of Y.
 *
 * Promises, kept by what is asked of the library and looked up in the algorithm that it proposes: f32 is multiplied and
 * summed in IEEE f32 (no TF32, no emulation); bf16 and f16 are summed in f32; a sum that is cut into parts is put
 * together in f32 in a fixed order, never in place. Nothing is timed: the algorithm is the first of the library's
 * ranking. */
#ifndef QN_KERNELS_CUDA_BLAS_H
#define QN_KERNELS_CUDA_BLAS_H
#include "cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What is done to the product before it is stored. Z is the product with the bias.
 *   aux       [m, aux_step] of the dtype for gelu, of bits for relu (1: Z > 0): written by _AUX, read by the gradients
 *   bias_grad written: sums of the stored gradient over the rows of Y; BGRADA, BGRADB of A' or B' over k */
enum qn__blas_epilogue {
    QN_BLAS_PLAIN,    /* Y = Z                                     */
    QN_BLAS_RELU,     /* Y = max(Z, 0)                             */
    QN_BLAS_RELU_AUX, /* and aux = Z > 0                           */
    QN_BLAS_GELU,     /* Y = gelu(Z), the tanh form                */
    QN_BLAS_GELU_AUX, /* and aux = Z                               */
    QN_BLAS_DRELU,    /* Y = aux ? product : 0                     */
    QN_BLAS_DGELU,    /* Y = product gelu'(aux)                    */
    QN_BLAS_BGRAD_A,  /* Y = product; bias_grad[i] = sum_k A'[i,k] */
    QN_BLAS_BGRAD_B,  /* Y = product; bias_grad[j] = sum_k B'[k,j] */
};

/* A batch of products. */
struct qn__blas_product {
    int64_t m, n, k;
    bool ta, tb;
    qn_dtype dtype;                        /* of A, B, Y, bias, aux: F32, BF16 or F16             */
    int64_t batch, a_step, b_step, y_step; /* elements from one matrix to the next; 0: the same   */
    int64_t align;                         /* every address is a multiple of it (a power of two)  */
    enum qn__blas_epilogue epilogue;
    bool bias;        /* [n], added before the rest; not with gradients                           */
    bool bias_grad;   /* [n], written: for DRELU and DGELU; always for BGRAD_A ([m]) and BGRAD_B  */
    int64_t aux_step; /* elements (relu: bits) from one row of aux to the next: a multiple of 8 (128) */
};

struct qn__blas_plan;
/* Chooses an algorithm that needs at most `workspace` bytes, the one that step->algorithm names if it names one.
 * *out = NULL: the library has none. */
qn_status qn__blas_plan(struct qn__blas_plan **out, cublasLtHandle_t lt, const struct qn__blas_product *p,
                        size_t workspace, const struct qn__step *step, qn_error *err);
void qn__blas_plan_free(struct qn__blas_plan *plan);
/* Bytes that the plan is run with: those of its algorithm if that was named, else all that it might have needed. */
size_t qn__blas_workspace(const struct qn__blas_plan *plan);
/* What qn__blas_plan chooses from. */
qn_status qn__blas_algorithms(cublasLtHandle_t lt, const struct qn__blas_product *p, size_t workspace,
                              const struct qn__step *step, struct qn__algorithm *out, int max, int *n, qn_error *err);

struct qn__blas_data {
    const void *a, *b;
    void *y, *bias /* or bias_grad */, *aux, *workspace;
};
qn_status qn__blas_run(const struct qn__blas_plan *plan, const struct qn__blas_data *data, cudaStream_t stream,
                       const struct qn__step *step, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
