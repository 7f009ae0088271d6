/* shadow.cpp - what the checked build knows of every byte of shared and device memory. */
#include "engine.h"

namespace cudasim {

void touch(const void *p, size_t bytes, Access kind)
{
    if (checked) shadow_access(p, bytes, kind, block.thread, __builtin_return_address(0));
}
void fence(int scope)
{
    if (checked) shadow_fence(scope);
}
void shadow_launch() {}
void shadow_block() {}
void shadow_shared(char *, size_t) {}
void shadow_barrier() {}
void shadow_warp_sync(int, uint32_t) {}
void shadow_fence(int) {}
void shadow_access(const void *, size_t, Access, int, const void *) {}
void shadow_in_flight(const void *, size_t) {}
void shadow_delivered(const void *, size_t) {}
void shadow_valid(const void *, size_t, bool) {}
void shadow_copy(const void *, const void *, size_t) {}
void shadow_library_read(const void *, size_t, const char *) {}

} // namespace cudasim
