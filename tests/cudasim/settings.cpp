/* settings.cpp - what the environment says (README.md lists it). */
#include "engine.h"
#include <stdlib.h>
#include <string.h>

namespace cudasim
{

Settings settings;

static long long number(const char *name, const char *text, long long least, long long most)
{
    char *end;
    long long v = strtoll(text, &end, 0);
    if (end == text || *end || v < least || v > most) {
        fprintf(stderr, "cudasim: %s=%s; expected a number from %lld to %lld\n", name, text, least, most);
        exit(2);
    }
    return v;
}

static void read_order(const char *text)
{
    const char *seed = strchr(text, ':');
    settings.order = FORWARD;
    if (!strcmp(text, "reversed"))
        settings.order = REVERSED;
    else if (!strncmp(text, "random", 6) && (!text[6] || seed == text + 6))
        settings.order = RANDOM;
    else if (strcmp(text, "forward") != 0) {
        fprintf(stderr, "cudasim: QN_CUDASIM_ORDER=%s; expected forward, reversed or random:SEED\n", text);
        exit(2);
    }
    settings.seed = seed ? (uint64_t)number("QN_CUDASIM_ORDER", seed + 1, 0, INT64_MAX) : 1;
}

static bool flag(const char *name, bool otherwise)
{
    const char *text = getenv(name);
    return text ? number(name, text, 0, 1) : otherwise;
}

void read_settings()
{
    static bool done;
    if (done) return;
    done = true;
    const char *text = getenv("QN_CUDASIM_STREAMS");
    settings.streams = text && !strcmp(text, "eager") ? EAGER : LAZY;
    if (text && !strncmp(text, "mixed:", 6)) {
        settings.streams = MIXED;
        settings.eager_streams = (unsigned)number("QN_CUDASIM_STREAMS", text + 6, 0, UINT32_MAX);
    } else if (text && strcmp(text, "eager") != 0 && strcmp(text, "lazy") != 0) {
        fprintf(stderr, "cudasim: QN_CUDASIM_STREAMS=%s; expected lazy, eager or mixed:BITS\n", text);
        exit(2);
    }
    text = getenv("QN_CUDASIM_ORDER");
    read_order(text ? text : "forward");
    text = getenv("QN_CUDASIM_DEVICES");
    settings.devices = text ? (int)number("QN_CUDASIM_DEVICES", text, 0, 8) : 1;
    text = getenv("QN_CUDASIM_MEMORY");
    settings.memory = text ? (size_t)number("QN_CUDASIM_MEMORY", text, 0, INT64_MAX) : (size_t)8 << 30;
    text = getenv("QN_CUDASIM_PATIENCE");
    settings.patience = text ? (int)number("QN_CUDASIM_PATIENCE", text, 1, 3600) : 60;
    text = getenv("QN_CUDASIM_SHARED");
    settings.shared_optin = text ? (size_t)number("QN_CUDASIM_SHARED", text, 0, SHARED_MAX) : 99 * 1024;
    settings.protect = flag("QN_CUDASIM_PROTECT", checked);
    settings.races = flag("QN_CUDASIM_CHECK", checked);
    settings.device = getenv("QN_CUDASIM_DEVICE");
    settings.fail = getenv("QN_CUDASIM_FAIL");
    settings.counts = getenv("QN_CUDASIM_COUNTS");
    settings.report = getenv("QN_CUDASIM_REPORT");
    settings.resources = getenv("QN_CUDASIM_RESOURCES");
}

/* PCG: 64 bits of state, 32 of output. */
uint32_t next_random(uint64_t *state)
{
    uint64_t old = *state;
    *state = old * 6364136223846793005u + 1442695040888963407u;
    uint32_t mixed = (uint32_t)((old >> 18 ^ old) >> 27), turn = (uint32_t)(old >> 59);
    return mixed >> turn | mixed << (-turn & 31);
}

} // namespace cudasim
