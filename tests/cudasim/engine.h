/* engine.h - what the parts of the simulator know of each other.
 *
 * One kernel runs at a time in a process, on one OS thread, under one lock (runtime.cpp), so the state of the running
 * block is plain global data. Built twice: with CHECKED the kernels' loads and stores arrive in shadow.cpp. */
#ifndef QN_TESTS_CUDASIM_ENGINE_H
#define QN_TESTS_CUDASIM_ENGINE_H
#include "calls.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string>
#include <vector>

#ifndef CUDASIM_CHECKED
#define CUDASIM_CHECKED 0
#endif

namespace cudasim
{

enum { MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP };
enum { STATIC_SHARED_MAX = 48 * 1024, SHARED_MAX = 227 * 1024, RED_ZONE = 64 };
enum { SHARED_SPAN = 512 * 1024 }; /* the window of addresses that are shared memory */
enum Order { FORWARD, REVERSED, RANDOM };

constexpr bool checked = CUDASIM_CHECKED;

/* ---- settings (settings.cpp): from QN_CUDASIM_*, read once ------------------------------------------- */

enum Streams { LAZY, EAGER, MIXED };
struct Settings {
    Streams streams;
    unsigned eager_streams; /* MIXED: a bit for each stream, in the order of their creation */
    Order order;
    uint64_t seed;
    int devices;
    bool protect; /* device memory is out of the host's reach between kernels */
    bool races;   /* the checked build follows loads and stores */
    const char *device, *fail, *counts, *report, *resources;
    size_t memory;
    int patience;        /* seconds before a deadlock is called one */
    size_t shared_optin; /* 0: what the device has */
};
extern Settings settings;
void read_settings();
uint32_t next_random(uint64_t *state);

/* ---- what runs now (block.cpp) ------------------------------------------------------------------------ */

struct Block {
    const char *kernel;
    const void *function;
    bool running; /* a kernel's own code has control */
    bool failed;  /* no thread of this grid goes on  */
    int threads;  /* of the block                     */
    int thread;   /* the one that runs               */
    int exited;
    uint64_t index; /* of the block in its grid, x fastest */
    char *shared;   /* the window                    */
    char *dynamic;
    size_t dynamic_bytes, shared_top, static_bytes;
    const char *arguments;
    size_t argument_bytes;
    char *stack_low, *stack_high; /* of the fiber that runs */
    int device;
    cudaError_t error; /* what a stopped or faulty kernel leaves behind */
};
extern Block block;

struct Grid {
    Kernel kernel;
    const void *arguments;
    size_t argument_bytes;
    dim3 grid, block;
    size_t dynamic_shared;
    int device;
};
/* Runs a whole grid. cudaSuccess, or the error that it leaves on its device after findings. */
cudaError_t run_grid(const Grid &g);
void run_threads(void (*call)(const void *), const void *arguments); /* fiber.cpp: the threads of one block */
void forget_fibers();                                                /* after a kernel was stopped          */
void stop_kernel();                                                  /* never returns to the thread that runs */
void leave_thread();
bool in_shared(const void *p);
void set_traps(); /* trap.cpp */
[[noreturn]] void fatal(const char *what);

/* ---- asynchronous copies (async.cpp) ------------------------------------------------------------------- */

void async_thread_exit(int thread);
void async_reset();

/* ---- findings (report.cpp) ----------------------------------------------------------------------------- */

/* Something that is wrong, in one line; inside a kernel the line begins with kernel, block and thread. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with places in the code: up to two of them are named at each %p of the format that is a program counter
 * when the line is printed ("at file:line"). */
void report_at(const void *here, const void *there, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t finding_count();
const char *finding_text(size_t i);
void forget_findings();
/* Prints what is new; called outside kernels. */
void flush_findings();

/* ---- kernels by address (symbols.cpp) ----------------------------------------------------------------------- */

/* "row_sums<bf16>", or the text of the launch where the file has no symbols. */
const std::string &function_name(const Kernel &kernel);
struct Resources {
    int registers;
    size_t shared;
};
const Resources *resources_of(const Kernel &kernel); /* NULL: not in the table, or none was given */

/* ---- device memory (memory.cpp) ------------------------------------------------------------------------- */

struct Allocation {
    char *p;
    size_t bytes;
    int device; /* -1: pinned host memory */
    bool freed;
    uint64_t number;
};
Allocation *find_allocation(const void *p); /* the one that p lies in, or ends just before p; freed ones too */
bool in_device_arena(const void *p);
void open_memory(); /* between the two the host may touch device memory; they nest */
void close_memory();
struct OpenMemory {
    OpenMemory() { open_memory(); }
    ~OpenMemory() { close_memory(); }
};

/* ---- shadow (shadow.cpp; empty unless checked) ----------------------------------------------------------- */

void shadow_launch();
void shadow_block();
void shadow_shared(char *p, size_t bytes);
void shadow_barrier();
void shadow_warp_sync(int warp, uint32_t mask);
void shadow_fence(int scope);
void shadow_access(const void *p, size_t bytes, Access kind, int thread, const void *place);
void shadow_in_flight(const void *p, size_t bytes);
void shadow_delivered(const void *p, size_t bytes);
/* Bytes that became valid (copies, library results), or invalid again (allocation, poison). */
void shadow_valid(const void *p, size_t bytes, bool valid);
/* What is valid of the source is valid of the destination after a copy. */
void shadow_copy(const void *dst, const void *src, size_t bytes);
void shadow_library_read(const void *p, size_t bytes, const char *what);

/* ---- counts (count.cpp) ------------------------------------------------------------------------------------------ */

extern bool counting;
void count_launch(const Kernel &kernel, uint64_t threads);
void count_from_environment();
void count_access(const void *p, size_t bytes, Access kind, int thread, const void *place, bool shared);
void count_block_end();
void count_launch_end();
void count_matrix_product();

} // namespace cudasim
#endif
