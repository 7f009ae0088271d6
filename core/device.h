/* device.h - devices that core has opened: the CPU, or one of a plugin's. Private to core/. */
#ifndef QN_CORE_DEVICE_H
#define QN_CORE_DEVICE_H
#include "backend.h"
#include "../include/quern/device.h"

/* Shared by a store and its programs: the last one to give it back closes it. */
struct qn__gpu_device {
    qn_alloc alloc;
    int refs;
    char name[QN_DEVICE_NAME]; /* "cuda:0" */
    const struct qn__backend *backend;
    const struct qn__device_api *api;
    struct qn__device *device;
};

/* Opens "cuda", "cuda:1", or for "auto" the first GPU if there is one that can be used. *out is NULL for the CPU. */
qn_status qn__device_open(struct qn__gpu_device **out, const char *name, const qn_alloc *alloc, qn_error *err);
/* The kernels of the plugin, for a GPU that is known by its description only: no driver is asked for. */
qn_status qn__device_kernels(const struct qn__backend **out, qn_error *err);
struct qn__gpu_device *qn__device_share(struct qn__gpu_device *d); /* NULL is fine */
void qn__device_close(struct qn__gpu_device *d);                   /* NULL is fine */
/* E3041 of a wrong value that a kernel of an operator has met, as the CPU tells it. */
qn_status qn__fault_fail(enum qn__opcode op, const struct qn__fault *f, qn_error *err);
#endif
