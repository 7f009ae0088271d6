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
    const void *attr;                  /* the operator's struct of attr.h; NULL if it has none */
    uint32_t writes;                   /* bit i: x[i] is written in place (and y is x[0] after the write) */
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

/* One of a library's algorithms for a step, by a name that the kernel gives it: printable, without tabs. */
struct qn__algorithm {
    char name[112];
    size_t workspace;
};

/* Where a step runs. Streams are given to steps before memory is placed: the work arena is reused in the order of
 * the compute stream, so what another stream touches has bytes of its own. */
enum qn__stream {
    QN_STREAM_COMPUTE,
    QN_STREAM_COPY, /* inputs on their way to a device */
    QN_STREAM_COMM, /* collectives                     */
};

struct qn__step {
    struct qn__args args;
    struct qn__choice choice;
    const struct qn__kernel *kernel;
    void *state;                   /* what prepare made        */
    void *workspace;               /* NULL until bind          */
    const struct qn__queue *queue; /* NULL on the CPU */
    int32_t position;              /* in the schedule */
    enum qn__stream stream;
    const char *name;      /* of the value, scoped; "" if it has none */
    const char *algorithm; /* for prepare: which of the library's to take; NULL: the first of its ranking */
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
    /* Kernels of a library that has several algorithms (NULL: there is nothing to choose). describe: all that the
     * choice depends on, in a line without tabs; false if this step has none. algorithms: those that prepare would
     * take, in the library's order, for a step that has been picked and not prepared. */
    bool (*describe)(const struct qn__step *, char *text, size_t size);
    qn_status (*algorithms)(struct qn__step *, struct qn__algorithm *out, int max, int *n, qn_error *);
};

/* ---- devices that are not the CPU ------------------------------------------------------------------------ */

/* What choices of algorithms hold for. */
struct qn__identity {
    char gpu[128];                   /* printable ASCII                          */
    int64_t driver, cuda, blas, dnn; /* as each counts its versions; dnn 0: none */
};

struct qn__device_info {
    char name[128];
    int64_t memory, free; /* bytes */
    struct qn__gpu gpu;
};

/* The first wrong value that a kernel of a program has met (an index out of range). */
enum qn__fault_kind { QN_FAULT_INDEX, QN_FAULT_TARGET };
struct qn__fault {
    int32_t position; /* of the step in the schedule, plus 1; 0: nothing wrong */
    int32_t kind;
    int64_t at, value, limit; /* element `at` is `value`, which is not in 0..limit-1 */
};

/* Two of everything that the host and a running step touch at once; and how many runs back values can be read. */
enum { QN_SLOTS = 2, QN_PAST = 4 };

/* What a program hands over when its memory exists. Runs of the micro phase take the slots in turn; an update takes
 * that of the micro run before it. */
struct qn__load {
    const struct qn__step *step[QN_SLOTS]; /* by position, with the addresses of a slot */
    int32_t n_steps, n_micro;
    const void *input_host; /* copied to input[slot] when a micro run starts */
    void *input[QN_SLOTS];
    size_t input_bytes;
    const void *kept[QN_SLOTS][2]; /* by phase: brought back after each run */
    size_t kept_bytes[2];
    const void *rng; /* copied to rng_before[slot] when a micro run starts; may be NULL */
    void *rng_before[QN_SLOTS];
    size_t rng_bytes;
};
/* Pinned host memory for it: inputs on their way, and a ring of kept values with the faults beside them. */
static inline size_t qn__pinned_bytes(const struct qn__load *l)
{
    return QN_SLOTS * l->input_bytes + QN_PAST * (l->kept_bytes[0] + l->kept_bytes[1] + 2 * sizeof(struct qn__fault));
}
struct qn__timing {
    double start, seconds;
}; /* of one step; start: since that of the phase */

/* What core asks of a device. Every function that returns a status fills err. phase: 0 micro, 1 update. */
struct qn__device; /* one opened device           */
struct qn__runs;   /* the runs of a program on it */
struct qn__device_api {
    qn_status (*count)(int *out, qn_error *err);
    qn_status (*info)(int index, struct qn__device_info *out, qn_error *err);
    qn_status (*open)(struct qn__device **out, int index, const qn_alloc *alloc, qn_error *err);
    void (*close)(struct qn__device *);
    const struct qn__gpu *(*describe)(const struct qn__device *);
    qn_status (*identity)(struct qn__device *, struct qn__identity *out, qn_error *err);
    qn_status (*memory)(struct qn__device *, int64_t *free, int64_t *total, qn_error *err);
    /* Memory of the device, at multiples of 256 bytes; what it holds at first is unspecified. */
    qn_status (*take)(struct qn__device *, void **out, size_t bytes, qn_error *err);
    void (*give)(struct qn__device *, void *memory, size_t bytes);
    /* Copies that come after everything enqueued before and are done on return. */
    qn_status (*put)(struct qn__device *, void *device, const void *host, size_t bytes, qn_error *err);
    qn_status (*get)(struct qn__device *, void *host, const void *device, size_t bytes, qn_error *err);
    /* The device's own queue, for kernels that are no program's. */
    const struct qn__queue *(*queue)(struct qn__device *, int stream);
    /* Returns when everything enqueued is done; what went wrong on the device arrives here. A wrong value that a kernel
     * on the device's own queue has met is told once, in *out (may be NULL); else out->position is 0. */
    qn_status (*wait)(struct qn__device *, struct qn__fault *out, qn_error *err);
    /* Seconds of each of `repeats` launches of a step by the device's own clock, the L2 cache flushed before each. */
    qn_status (*time)(struct qn__device *, const struct qn__step *, int repeats, double *seconds, qn_error *err);
    /* Whether all elements of device memory are finite; after everything enqueued before. */
    qn_status (*finite)(struct qn__device *, const struct qn__view *, bool *out, qn_error *err);

    /* Opened when a program is compiled, for the queue that its kernels are prepared with; loaded once. plain: launch
     * every kernel by itself instead of replaying a captured graph. */
    qn_status (*runs_open)(struct qn__runs **out, struct qn__device *, bool plain, qn_error *err);
    void (*runs_close)(struct qn__runs *);
    const struct qn__queue *(*runs_queue)(const struct qn__runs *);
    qn_status (*runs_load)(struct qn__runs *, const struct qn__load *, qn_error *err);
    /* Enqueues a phase and returns. */
    qn_status (*runs_start)(struct qn__runs *, int phase, qn_error *err);
    /* The same with the time of each step, waited for; out: by position. */
    qn_status (*runs_time)(struct qn__runs *, int phase, struct qn__timing *out, qn_error *err);
    /* Returns when all runs of a phase but the latest `ago` are done. A wrong value that a kernel has met so far is
     * told once, in *out; else out->position is 0. */
    qn_status (*runs_wait)(struct qn__runs *, int phase, int ago, struct qn__fault *out, qn_error *err);
    /* What the run `ago` runs back has left in kept, in host memory; NULL if there was none. Waits for nothing. */
    const void *(*runs_kept)(const struct qn__runs *, int phase, int ago);
    int (*runs_slot)(const struct qn__runs *, int ago); /* of a micro run */
};

/* A kernel of an operator that pick never chooses: a lower rung of its ladder, for benchmarks and tests. */
struct qn__rung {
    enum qn__opcode op; /* QN_OP_none ends a table */
    const char *name;
    const struct qn__kernel *kernel;
};

/* A backend: for each opcode its kernel (NULL where the operator is lowered to others or needs none). */
struct qn__backend {
    const char *name;
    const struct qn__kernel *const *kernel; /* by opcode */
    const struct qn__device_api *device;    /* NULL for the CPU */
    const struct qn__rung *rungs;           /* lowest first for each operator; NULL: none */
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
