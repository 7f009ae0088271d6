/* plugin.c - what libquern_cuda.so exports: see core/plugin.h. */
#include "device.h"
#include "rungs.h"
#include "../../core/plugin.h"

extern const struct qn__kernel *const qn__cuda_kernels[QN_OP_COUNT];

static const struct qn__device_api device_api = {
    .count = qn__cuda_count,
    .info = qn__cuda_info,
    .open = qn__cuda_open,
    .close = qn__cuda_close,
    .describe = qn__cuda_describe,
    .identity = qn__cuda_identity,
    .memory = qn__cuda_memory,
    .take = qn__cuda_take,
    .give = qn__cuda_give,
    .put = qn__cuda_put,
    .get = qn__cuda_get,
    .queue = qn__cuda_queue,
    .wait = qn__cuda_wait,
    .time = qn__cuda_time,
    .finite = qn__cuda_finite,
    .runs_open = qn__runs_open,
    .runs_close = qn__runs_close,
    .runs_queue = qn__runs_queue,
    .runs_load = qn__runs_load,
    .runs_start = qn__runs_start,
    .runs_time = qn__runs_time,
    .runs_wait = qn__runs_wait,
    .runs_kept = qn__runs_kept,
    .runs_slot = qn__runs_slot,
};

static const struct qn__backend backend = {
    .name = "cuda", .kernel = qn__cuda_kernels, .device = &device_api, .rungs = qn__cuda_rungs
};

extern QN_API const struct qn__plugin qn__cuda_plugin;
const struct qn__plugin qn__cuda_plugin = {
    .abi = QN_PLUGIN_ABI,
    .bytes = sizeof(struct qn__plugin),
    .step_bytes = sizeof(struct qn__step),
    .api_bytes = sizeof(struct qn__device_api),
    .version = QN_VERSION,
    .operators = qn__operators,
    .backend = &backend,
};
