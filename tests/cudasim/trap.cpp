/* trap.cpp - addresses that nothing can answer: a kernel that touches one is stopped and reported like any other
 * finding; a host that touches device memory (out of its reach between kernels) is told so before it dies. */
#include "fiber.h"
#include "memory.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

namespace cudasim
{

static struct sigaction before[2];
static pthread_t runner;
static const void *trapped, *trapped_at;

static void landed()
{
    report_at(trapped_at, nullptr, "the access at %%s to address %p cannot be answered", trapped);
    block.error = cudaErrorIllegalAddress;
    stop_kernel();
}

/* Makes the interrupted thread go on in landed(), on the same fiber's stack from its beginning: nothing on it will be
 * needed again. */
static bool redirect(void *context)
{
    ucontext_t *c = (ucontext_t *)context;
#ifdef __x86_64__
    trapped_at = (const char *)c->uc_mcontext.gregs[REG_RIP] + 1;
    c->uc_mcontext.gregs[REG_RSP] = (greg_t)((uintptr_t)block.stack_high / 16 * 16 - 128 - 8);
    c->uc_mcontext.gregs[REG_RIP] = (greg_t)landed;
    return true;
#elif defined(__aarch64__)
    trapped_at = (const char *)c->uc_mcontext.pc + 1;
    c->uc_mcontext.sp = (uintptr_t)block.stack_high / 16 * 16 - 128;
    c->uc_mcontext.pc = (uintptr_t)landed;
    return true;
#else
    (void)c;
    return false;
#endif
}

static void say_touch(const void *p)
{
    char text[200];
    const Allocation *a = find_allocation(p);
    int n = snprintf(text, sizeof text, "cudasim: host code touches device memory: address %p", p);
    if (a)
        n += snprintf(text + n, sizeof text - (size_t)n, ", %td bytes into %s%zu bytes of device %d",
                      (const char *)p - a->p, a->freed ? "freed " : "", a->bytes, a->device);
    text[n++] = '\n';
    if (write(2, text, (size_t)n) < 0) return;
}

static void handle(int number, siginfo_t *info, void *context)
{
    if (block.running && pthread_equal(pthread_self(), runner)) {
        trapped = info->si_addr;
        if (redirect(context)) return;
    }
    if (in_device_arena(info->si_addr)) say_touch(info->si_addr);
    /* The one who was here before, or death, when the instruction is tried again. */
    sigaction(number, &before[number == SIGBUS], nullptr);
}

void set_traps()
{
    static bool done;
    static char stack[64 * 1024];
    runner = pthread_self();
    if (done) return;
    done = true;
    stack_t now;
    if (!sigaltstack(nullptr, &now) && now.ss_flags & SS_DISABLE) {
        stack_t own = { stack, 0, sizeof stack };
        sigaltstack(&own, nullptr);
    }
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before[0]);
    sigaction(SIGBUS, &action, &before[1]);
}

} // namespace cudasim
