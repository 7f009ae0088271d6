/* runtime.h - what the calls of the runtime share: the lock, the current device, errors, failing on demand. */
#ifndef QN_TESTS_CUDASIM_RUNTIME_H
#define QN_TESTS_CUDASIM_RUNTIME_H
#include "engine.h"

namespace cudasim
{

int current_device(); /* of the calling thread */
void set_current_device(int device);
/* cudaSuccess, or the error that the device answers to everything since something went wrong on it. */
cudaError_t device_state(int device);
void break_device(int device, cudaError_t how);
void mend_devices();
/* Releases the lock for a moment so that other threads may enqueue. */
void let_others_in();

/* Remembers an error for cudaGetLastError. */
cudaError_t say(cudaError_t e);

/* One call of the runtime: holds the lock, reads the settings, counts the call. answer: not success where the call
 * must fail at once (failing on demand, a broken device). */
struct Entry {
    cudaError_t answer;
    explicit Entry(const char *call, cudaError_t typical = cudaErrorUnknown, bool needs_device = true);
    ~Entry();
};
void lock();
void unlock();

cudaError_t take_error(bool clear); /* of the calling thread, or the device's that stays */
void host_function(bool begins);    /* from now on this thread's calls are not permitted */

/* device.cpp */
int device_count();
int capability(int device); /* 80, 90, ... */
void fill_properties(struct cudaDeviceProp *p, int device);
bool peer_enabled(int from, int to);
size_t shared_optin(int device); /* the most dynamic shared memory that a kernel may ask for */

/* launch.cpp */
uint64_t launch_count();

/* stream_calls.cpp, graph.cpp */
size_t live_streams();
size_t live_events();
size_t live_graphs();
} // namespace cudasim
#endif
