/* backend.h - the kernels' door to core: what a backend must provide, and what it is given.
 *
 * A kernel of one operator is four functions. pick and prepare run when a program is compiled, bind when its
 * memory exists, launch in the step:
 *
 *   pick     pure host arithmetic on shapes: which variant, how many bytes of workspace, which physical
 *            layouts; or QN_EUSAGE, "not this one"
 *   prepare  creates what the variant needs (library primitives); may raise choice->workspace; may be NULL
 *   bind     called once all pointers are final; may be NULL
 *   launch   runs; never allocates, decides, logs or synchronises
 *   release  frees what prepare made; may be NULL
 */
#ifndef QN_CORE_BACKEND_H
#define QN_CORE_BACKEND_H
#include "attr.h"
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { QN_MAX_IN = 8, QN_MAX_MORE = 2 }; /* operands; results beside y */

enum qn__opcode {
    QN_OP_none, /* node 0: "no value" */
#define OP(name, n_in, meaning) QN_OP_##name,
#include "ops.def"
#undef OP
    QN_OP_COUNT
};

/* Physical order of a rank-4 value [N,C,H,W]: with block b it is stored as [N][C/b][H][W][b].
 * QN_PLAIN (1) is NCHW, b = C is NHWC, b = 8 and 16 are oneDNN's nChw8c and nChw16c (only where b divides C,
 * so there is never padding). Values of other ranks are always plain. */
enum { QN_PLAIN = 1, QN_ANY_BLOCK = 0 };

struct qn__view {
    void *data; /* NULL until bind */
    qn_dtype dtype;
    int32_t rank;
    int32_t block; /* QN_PLAIN, or the channel block */
    int64_t dim[QN_MAX_DIMS];
    int64_t count; /* product of dim */
};

/* What a kernel of a GPU needs to know of it to choose: of the device opened, or of a description (gpus/). */
struct qn__gpu {
    int32_t capability; /* 80, 86, 90, ... */
    int32_t multiprocessors, threads_per_multiprocessor;
    int64_t shared_per_block, shared_per_multiprocessor; /* bytes; per block: the most one may ask for */
    int64_t l2, workspace;                               /* bytes; workspace: for cuBLASLt */
};

struct qn__args {
    enum qn__opcode op;
    int32_t n_in;
    struct qn__view y, x[QN_MAX_IN];
    struct qn__view more[QN_MAX_MORE]; /* further results (row `output`), always plain; data NULL for those that */
    uint32_t wanted;                   /* nobody reads: bit k says whether more[k] is wanted                      */
    const void *attr; /* the operator's struct of attr.h; NULL if it has none */
    uint32_t writes;  /* bit i: x[i] is written in place (and y is x[0] after the write) */
    int32_t threads;
    const struct qn__gpu *gpu; /* NULL on the CPU */
};

struct qn__queue; /* the backend's own: where a kernel is enqueued (kernels/cuda/cuda.h) */

struct qn__choice {
    int32_t variant; /* index into kernel->variants */
    size_t workspace;
    /* Layouts, asked with x[i].block as they come: what the kernel wants of each operand and will give.
     * pick starts from "all plain"; only kernels of operators with QN_LAYOUT_ASK change it. */
    int32_t x_block[QN_MAX_IN], y_block;
};

struct qn__step {
    struct qn__args args;
    struct qn__choice choice;
    const struct qn__kernel *kernel;
    void *state;     /* what prepare made        */
    void *workspace; /* NULL until bind          */
    const struct qn__queue *queue; /* NULL on the CPU */
    int32_t position; /* in the schedule */
};

struct qn__kernel {
    const char *const *variants; /* names, NULL-terminated; named for their strategy */
    qn_status (*pick)(const struct qn__args *, struct qn__choice *);
    qn_status (*prepare)(struct qn__step *, qn_error *);
    qn_status (*bind)(struct qn__step *, qn_error *);
    qn_status (*launch)(const struct qn__step *, qn_error *);
    /* n steps of this kernel that follow each other in the schedule, none of which reads what another writes: as if
     * launched one by one. NULL: they are. */
    qn_status (*launch_many)(const struct qn__step *const *, int n, qn_error *);
    void (*release)(struct qn__step *);
};

/* A device that is not the CPU: what core asks of it. Every function that returns a status fills err. */
struct qn__device; /* one opened device */
struct qn__device_api {
    qn_status (*count)(int *out, qn_error *err);
    qn_status (*open)(struct qn__device **out, int index, const qn_alloc *alloc, qn_error *err);
    void (*close)(struct qn__device *);
    const struct qn__gpu *(*describe)(const struct qn__device *);
    /* Memory of the device, at multiples of 256 bytes; what it holds at first is unspecified. */
    qn_status (*take)(struct qn__device *, void **out, size_t bytes, qn_error *err);
    void (*give)(struct qn__device *, void *memory, size_t bytes);
    /* Copies that come after everything enqueued before and are done on return. */
    qn_status (*put)(struct qn__device *, void *device, const void *host, size_t bytes, qn_error *err);
    qn_status (*get)(struct qn__device *, void *host, const void *device, size_t bytes, qn_error *err);
    const struct qn__queue *(*queue)(struct qn__device *, int stream); /* 0: compute */
    /* Returns when everything enqueued is done; mistakes found on the device arrive here. */
    qn_status (*wait)(struct qn__device *, qn_error *err);
};

/* A backend: for each opcode its kernel (NULL where the operator is lowered to others or needs none). */
struct qn__backend {
    const char *name;
    const struct qn__kernel *const *kernel;  /* by opcode */
    const struct qn__device_api *device;     /* NULL for the CPU */
    /* Asked before a kernel's pick: NULL, or which element types this backend has for the operator ("F32 or F64").
     * Shape rules allow what any backend can compute. NULL: each pick decides for itself. */
    const char *(*expects)(const struct qn__args *);
};
/* The CPU backend, f32 (oneDNN and SIMD loops) and f64 (the reference). Which of the two a node uses is decided
 * by qn__compute_dtype. */
extern const struct qn__backend qn__cpu_f32, qn__cpu_f64;

#ifdef __cplusplus
}
#endif
#endif
