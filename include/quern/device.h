/* device.h - what can compute here.
 *
 *     qn_device_info gpu;
 *     for (int i = 0; qn_device_gpu(&gpu, i, &err) == QN_OK; i++) printf("%s: %s\n", gpu.device, gpu.name);
 *
 * The CPU is always there. NVIDIA GPUs need libquern_cuda.so, which is opened when it is asked for: the file that the
 * variable QN_CUDA_PLUGIN names, or the one beside the library or the program, in ../lib of it, or where the system
 * looks for libraries. */
#ifndef QUERN_DEVICE_H
#define QUERN_DEVICE_H
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { QN_DEVICE_NAME = 24 };

typedef struct qn_device_info {
    char device[QN_DEVICE_NAME]; /* "cuda:0"                              */
    char name[128];              /* as its maker calls it                 */
    int capability;              /* compute capability, 80 for 8.0        */
    int multiprocessors;
    int64_t memory, free; /* bytes in all, and free at this moment */
} qn_device_info;

/* GPU i = 0, 1, ...: E7001 if there are not so many, with the reason and what can be done if there is none at all
 * (no plugin, no driver, driver too old, ...); E7002 for a library that is missing or does not fit. */
QN_API QN_CHECKED qn_status qn_device_gpu(qn_device_info *out, int i, qn_error *err);

/* What a name means here: "cpu", "cuda" (the first GPU), "cuda:1", or "auto", which is the first GPU that can be used
 * (cuDNN included), or the CPU if none can; then `why` (may be NULL) holds the reason for the first, and code 0
 * otherwise. E7001 and E7002 for "cuda" where there is none; E2001 for any other name. */
QN_API QN_CHECKED qn_status qn_device_choose(char out[QN_DEVICE_NAME], const char *name, qn_error *why, qn_error *err);

/* A GPU that need not be here, by its figures (plan.h reads them from a file). Peaks are dense, without sparsity. */
typedef struct qn_gpu {
    char name[64];
    int capability[2];  /* major, minor                   */
    int64_t memory;     /* bytes                          */
    int64_t workspace;  /* bytes set aside for libraries  */
    int64_t l2;         /* bytes                          */
    double bandwidth;   /* of the memory, bytes per second */
    double f32, tensor; /* peak FLOP/s: IEEE f32; bf16 on tensor cores, f32 accumulation */
    int multiprocessors;
    int threads_per_multiprocessor;    /* resident at once  */
    int registers_per_multiprocessor;  /* of 32 bits        */
    int64_t shared_per_multiprocessor; /* bytes             */
    int64_t shared_per_block;          /* bytes, the most one block may ask for */
} qn_gpu;

#ifdef __cplusplus
}
#endif
#endif
