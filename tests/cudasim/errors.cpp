/* errors.cpp - names and texts of the runtime's errors. The texts are those of the real library where Quern's
 * messages show them often, else the name in words. */
#include "runtime.h"

using namespace cudasim;

static const struct {
    cudaError_t code;
    const char *name, *text;
} errors[] = {
#define CODE(code, text) { code, #code, text },
#include "errors.def"
#undef CODE
};

const char *cudaGetErrorName(cudaError_t e)
{
    for (const auto &row : errors)
        if (row.code == e) return row.name;
    return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t e)
{
    for (const auto &row : errors)
        if (row.code == e) return row.text;
    return "unrecognized error code";
}
cudaError_t cudaGetLastError(void)
{
    lock();
    cudaError_t e = take_error(true);
    unlock();
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    lock();
    cudaError_t e = take_error(false);
    unlock();
    return e;
}
