/* store_impl.h - the store's fields; for store.c and the compiler only. */
#ifndef QN_CORE_STORE_IMPL_H
#define QN_CORE_STORE_IMPL_H
#include "device.h"
#include "op.h"

struct qn__tensor {
    qn_store_entry entry; /* entry.name is owned; entry.data is host memory: of a GPU's store, a mirror */
    qn_init init;
    void *device; /* where kernels see it: on the CPU entry.data */
};
/* One allocation that lives as long as the store: tensors that came with one program, or a work arena. On a GPU the
 * host's part is the mirror of the tensors (a work arena has none), and `bytes` of the device stand behind. */
struct qn__slab {
    struct qn__slab *next;
    void *raw, *device;
    size_t raw_bytes, bytes;
};

struct qn_store {
    qn_alloc alloc;
    uint64_t seed;
    struct qn__gpu_device *gpu; /* NULL: the CPU */
    struct qn__tensor **tensor; /* pointers: entries handed out must not move */
    size_t n, cap;
    struct qn__slab *slab;
    char *work_at; /* the largest work arena so far, for programs of this store in turn */
    size_t work_bytes;
    int threads; /* OpenMP has started so many for programs of this store */
};

/* The tensor that node y (a `store` row) names: found and compared, or added without memory. */
qn_status qn__store_declare(qn_store *s, const struct qn__node *y, struct qn__tensor **out, qn_error *err);
struct qn__tensor *qn__store_find(const qn_store *s, const char *name); /* NULL if absent */
/* A work arena of at least `bytes`. Programs of one store run one at a time, so they share it; one that needs more than
 * there is brings a larger one, which later programs use. */
qn_status qn__store_work(qn_store *s, size_t bytes, char **out, qn_error *err);
/* Gives memory and first contents to every declared tensor that has none. */
qn_status qn__store_allocate(qn_store *s, qn_error *err);

/* Values start at multiples of this, so each takes its bytes rounded up, and even an empty one has an address. */
enum { QN_ALIGN = 256 };
static inline bool qn__slot_bytes(size_t *out, size_t bytes)
{
    if (!qn__add(out, bytes ? bytes : 1, QN_ALIGN - 1)) return false;
    *out &= ~(size_t)(QN_ALIGN - 1);
    return true;
}
#endif
