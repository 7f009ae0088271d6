/* cmd_devices.c - `quern devices`: what can compute here. */
#include "answers.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bits of the widest float vectors that kernels are picked for. */
static int vector_bits(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return 512;
    return __builtin_cpu_supports("avx2") ? 256 : 128;
#else
    return 128;
#endif
}

static const char *vector_name(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return "AVX-512";
    if (__builtin_cpu_supports("avx2")) return __builtin_cpu_supports("fma") ? "AVX2 with FMA" : "AVX2";
    return __builtin_cpu_supports("avx") ? "AVX" : "SSE2";
#else
    return "128-bit";
#endif
}

/* "model name : ..." of /proc/cpuinfo, or what kind of processor it is. */
static const char *cpu_name(char *buf, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(buf, size, "unknown processor");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(buf, size, "%s", colon + 1 + (colon[1] == ' '));
        break;
    }
    if (f) fclose(f);
    return buf;
}

static double total_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (double)pages * (double)page : 0;
}

static const char no_cuda[] = "no backend in this build";

int cmd_devices(int argc, char **argv)
{
    struct options o;
    char name[256];
    int code = cli_parse(&cli_devices, argc, argv, &o);
    if (code >= 0) return code;
    code = 0;
    qn_memory have = qn_memory_available();
    int cores = omp_get_num_procs();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (o.json) {
        code = cli_print_json(json_pack("[{s:s, s:b, s:o, s:i, s:I, s:s, s:i, s:f, s:I, s:s}, {s:s, s:b, s:s}]",
                                        "device", "cpu", "usable", 1, "name", cli_text(cpu_name(name, sizeof name)),
                                        "cores", cores, "online", (json_int_t)online, "vectors", vector_name(),
                                        "vector_bits", vector_bits(), "memory", total_memory(), "available",
                                        (json_int_t)have.bytes, "limit", have.limit, "device", "cuda", "usable", 0,
                                        "reason", no_cuda),
                              2);
    } else {
        printf("cpu   %s\n", qn__show(cpu_name(name, sizeof name)).s);
        printf("      %d cores for this process, %ld in the machine\n", cores, online);
        printf("      %s, %d bits: %d floats at once\n", vector_name(), vector_bits(), vector_bits() / 32);
        printf("      %.2f GiB of memory, %.2f GiB can be taken (%s)\n", total_memory() / 1073741824,
               (double)have.bytes / 1073741824, have.limit);
        printf("cuda  %s\n", no_cuda);
    }
    cli_free(&o);
    return cli_finish(code);
}
