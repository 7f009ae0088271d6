/* memory.h - allocations, for memory.cpp and the runtime's calls. */
#ifndef QN_TESTS_CUDASIM_MEMORY_H
#define QN_TESTS_CUDASIM_MEMORY_H
#include "engine.h"

namespace cudasim
{

enum { MAX_DEVICES = 8 };
char *device_take(int device, size_t bytes); /* NULL: the device is full */
void device_give(Allocation *a);
size_t device_used(int device);
void *pinned_take(size_t bytes);
void pinned_give(Allocation *a);
size_t live_allocations();
int device_of(const void *p); /* -1: host memory */
/* An allocation that has bytes in the page of this size around p; they never share one. */
const Allocation *allocation_in(const void *p, size_t page);
/* Whether the bytes lie inside one live allocation of the device. */
bool device_range(const void *p, size_t bytes, int device);

} // namespace cudasim
#endif
