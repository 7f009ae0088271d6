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

static json_t *cpu_json(void)
{
    char name[256];
    qn_memory have = qn_memory_available();
    return json_pack("{s:s, s:b, s:o, s:i, s:I, s:s, s:i, s:f, s:I, s:s}", "device", "cpu", "usable", 1, "name",
                     cli_text(cpu_name(name, sizeof name)), "cores", omp_get_num_procs(), "online",
                     (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "vectors", vector_name(), "vector_bits", vector_bits(),
                     "memory", total_memory(), "available", (json_int_t)have.bytes, "limit", have.limit);
}

static json_t *gpu_json(const qn_device_info *g)
{
    char capability[16];
    snprintf(capability, sizeof capability, "%d.%d", g->capability / 10, g->capability % 10);
    return json_pack("{s:s, s:b, s:o, s:s, s:i, s:I, s:I}", "device", g->device, "usable", 1, "name", cli_text(g->name),
                     "capability", capability, "multiprocessors", g->multiprocessors, "memory", (json_int_t)g->memory,
                     "available", (json_int_t)g->free);
}

static int print_all_json(void)
{
    json_t *all = json_array();
    qn_device_info gpu;
    qn_error err;
    int n = 0;
    json_array_append_new(all, cpu_json());
    for (; qn_device_gpu(&gpu, n, &err) == QN_OK; n++) json_array_append_new(all, gpu_json(&gpu));
    if (n == 0)
        json_array_append_new(all, json_pack("{s:s, s:b, s:o}", "device", "cuda", "usable", 0, "reason",
                                             cli_text(err.text)));
    return cli_print_json(all, 2);
}

static void print_all(void)
{
    char name[256];
    qn_memory have = qn_memory_available();
    qn_device_info gpu;
    qn_error err;
    int n = 0;
    printf("cpu     %s\n", qn__show(cpu_name(name, sizeof name)).s);
    printf("        %d cores for this process, %ld in the machine\n", omp_get_num_procs(),
           sysconf(_SC_NPROCESSORS_ONLN));
    printf("        %s, %d bits: %d floats at once\n", vector_name(), vector_bits(), vector_bits() / 32);
    printf("        %.2f GiB of memory, %.2f GiB can be taken (%s)\n", total_memory() / 1073741824,
           (double)have.bytes / 1073741824, have.limit);
    for (; qn_device_gpu(&gpu, n, &err) == QN_OK; n++) {
        printf("%-7s %s\n", gpu.device, qn__show(gpu.name).s);
        printf("        compute capability %d.%d, %d multiprocessors\n", gpu.capability / 10, gpu.capability % 10,
               gpu.multiprocessors);
        printf("        %.2f GiB of memory, %.2f GiB free\n", (double)gpu.memory / 1073741824,
               (double)gpu.free / 1073741824);
    }
    if (n == 0) printf("cuda    not usable: %s\n", err.text);
}

int cmd_devices(int argc, char **argv)
{
    struct options o;
    int code = cli_parse(&cli_devices, argc, argv, &o);
    if (code >= 0) return code;
    if (o.json)
        code = print_all_json();
    else
        print_all();
    cli_free(&o);
    return cli_finish(code < 0 ? 0 : code);
}
