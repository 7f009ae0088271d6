/* runtime.cpp - the lock, the current device, errors that stay, and calls that fail on demand. */
#include "runtime.h"
#include "memory.h"
#include "sim.h"
#include "stream.h"
#include <errno.h>
#include <map>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

namespace cudasim
{

/* ---- lock -------------------------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
void lock() { pthread_mutex_lock(&mutex); }
void unlock() { pthread_mutex_unlock(&mutex); }
void let_others_in()
{
    unlock();
    struct timespec moment = { 0, 200 * 1000 };
    nanosleep(&moment, nullptr);
    lock();
}

/* ---- devices and errors --------------------------------------------------------------------------------------- */

static thread_local int device_now;
static thread_local cudaError_t last_error;
static thread_local bool in_host_function;
static cudaError_t broken[MAX_DEVICES];

int current_device() { return device_now; }
void set_current_device(int device) { device_now = device; }
cudaError_t device_state(int device) { return broken[device]; }
void break_device(int device, cudaError_t how)
{
    if (!broken[device]) broken[device] = how;
}
void mend_devices()
{
    for (cudaError_t &e : broken) e = cudaSuccess;
    last_error = cudaSuccess;
}
void host_function(bool begins) { in_host_function = begins; }

cudaError_t say(cudaError_t e)
{
    if (e != cudaSuccess && e != cudaErrorNotReady) last_error = e;
    return e;
}
cudaError_t take_error(bool clear)
{
    cudaError_t e = broken[device_now] ? broken[device_now] : last_error;
    if (clear) last_error = cudaSuccess;
    return e;
}

/* After these a device answers nothing else. */
static bool stays(int code)
{
    switch (code) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure: return true;
    default: return false;
    }
}

/* ---- failing on demand ------------------------------------------------------------------------------------------ */

struct Failure {
    std::string call;
    uint64_t k;
    bool forever;
    int code; /* 0: the call's own */
};
static std::vector<Failure> failures;
static std::map<std::string, uint64_t> calls;
static uint64_t all_calls;

/* CALL:K[:forever][:CODE] */
static bool parse_failure(const std::string &text, Failure *f)
{
    size_t at = text.find(':');
    if (at == 0 || at == std::string::npos) return false;
    *f = Failure{ text.substr(0, at), 0, false, 0 };
    const char *p = text.c_str() + at + 1;
    char *end;
    f->k = strtoull(p, &end, 10);
    if (end == p || *p == '-' || !f->k) return false;
    if (!strncmp(end, ":forever", 8)) {
        f->forever = true;
        end += 8;
    }
    if (*end == ':') {
        p = end + 1;
        long code = strtol(p, &end, 10);
        if (end == p || code < 1 || code > 1000000) return false;
        f->code = (int)code;
    }
    return *end == '\0';
}

static bool parse_failures(const char *plan)
{
    failures.clear();
    calls.clear();
    all_calls = 0;
    std::string rest = plan ? plan : "";
    while (!rest.empty()) {
        size_t comma = rest.find(',');
        Failure f;
        if (!parse_failure(rest.substr(0, comma), &f)) {
            failures.clear();
            return false;
        }
        failures.push_back(f);
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
    return true;
}

static bool inject(const char *call, int *code)
{
    uint64_t count = ++calls[call];
    all_calls++;
    for (const Failure &f : failures) {
        uint64_t n = f.call == "any" ? all_calls : f.call == call ? count : 0;
        if (f.forever ? n < f.k : n != f.k) continue;
        if (f.code && code) *code = f.code;
        return true;
    }
    return false;
}

static void begin()
{
    static bool done;
    if (done) return;
    done = true;
    read_settings();
    count_from_environment();
    if (settings.fail && !parse_failures(settings.fail)) {
        fprintf(stderr, "cudasim: QN_CUDASIM_FAIL=%s; expected CALL:K[:forever][:CODE], several with commas\n",
                settings.fail);
        exit(2);
    }
}

Entry::Entry(const char *call, cudaError_t typical, bool needs_device)
{
    lock();
    begin();
    int code = typical;
    answer = cudaSuccess;
    if (inject(call, &code)) {
        answer = (cudaError_t)code;
        if (stays(code)) break_device(device_now, answer);
    } else if (needs_device && in_host_function) {
        answer = cudaErrorNotPermitted;
    } else if (needs_device && !settings.devices) {
        answer = cudaErrorNoDevice;
    } else if (needs_device) {
        answer = broken[device_now];
    }
    if (answer) say(answer);
}
Entry::~Entry() { unlock(); }

struct Locked {
    Locked()
    {
        lock();
        begin();
    }
    ~Locked() { unlock(); }
};

} // namespace cudasim

/* ---- sim.h --------------------------------------------------------------------------------------------------------- */

using namespace cudasim;

int cudasim_inject(const char *call, int *code)
{
    Locked hold;
    int own = 0;
    bool fails = inject(call, &own);
    if (own && code) *code = own;
    return fails;
}
int cudasim_fail(const char *plan)
{
    Locked hold;
    return parse_failures(plan);
}
uint64_t cudasim_calls(const char *call)
{
    Locked hold;
    if (!strcmp(call, "any")) return all_calls;
    auto i = calls.find(call);
    return i == calls.end() ? 0 : i->second;
}

struct Shared { /* a closure of another library, released once */
    int (*run)(void *);
    void *state;
    void (*release)(void *);
    ~Shared()
    {
        if (release) release(state);
    }
};

cudaError_t cudasim_enqueue(cudaStream_t stream, const char *what, int (*run)(void *), void *state,
                            void (*release)(void *))
{
    Locked hold;
    std::shared_ptr<Shared> work(new Shared{ run, state, release });
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    int device = s->device;
    if (device_state(device)) return say(device_state(device));
    return say(enqueue(s, what, [work, device] {
        if (device_state(device)) return true;
        OpenMemory open;
        size_t findings = finding_count();
        int answer = work->run(work->state);
        if (answer == CUDASIM_FAILED || finding_count() > findings) break_device(device, cudaErrorLaunchFailure);
        flush_findings();
        return answer != CUDASIM_NOT_YET;
    }));
}
int cudasim_progress(void)
{
    Locked hold;
    return try_any();
}
int cudasim_stream_device(cudaStream_t stream)
{
    Locked hold;
    Stream *s = stream_of(stream);
    return s ? s->device : -1;
}
int cudasim_capturing(cudaStream_t stream)
{
    Locked hold;
    Stream *s = stream_of(stream);
    return s && s->capture;
}
int cudasim_range(const void *p, size_t bytes, int device, const char *what)
{
    Locked hold;
    if (!bytes || device_range(p, bytes, device < 0 ? current_device() : device)) return 1;
    report("%s: %zu bytes at %p are not inside one allocation of device %d", what, bytes, p,
           device < 0 ? current_device() : device);
    flush_findings();
    return 0;
}
int cudasim_is_device(const void *p) { return in_device_arena(p); }
void cudasim_read(const void *p, size_t bytes, const char *what)
{
    Locked hold;
    if (checked) shadow_library_read(p, bytes, what);
}
void cudasim_written(const void *p, size_t bytes)
{
    Locked hold;
    if (checked) shadow_valid(p, bytes, true);
}
void cudasim_report(const char *format, ...)
{
    Locked hold;
    char text[900];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    report("%s", text);
    flush_findings();
    break_device(current_device(), cudaErrorLaunchFailure);
}
int cudasim_findings(void)
{
    Locked hold;
    return (int)finding_count();
}
const char *cudasim_finding(int i)
{
    Locked hold;
    return finding_text((size_t)i);
}
void cudasim_forget(void)
{
    Locked hold;
    forget_findings();
    mend_devices();
}
size_t cudasim_live(void)
{
    Locked hold;
    return live_allocations() + live_streams() + live_events() + live_graphs();
}
size_t cudasim_used(int device)
{
    Locked hold;
    return device >= 0 && device < MAX_DEVICES ? device_used(device) : 0;
}
uint64_t cudasim_launches(void)
{
    Locked hold;
    return launch_count();
}
